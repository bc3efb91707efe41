// Reads a potential from the text that mlmd writes; every complaint names the file and the line.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "descriptors.h"
#include "network.h"

namespace mlmd {

struct Model {
  std::string units;
  std::vector<std::string> elements;
  double cutoff = 0.0, angular_cutoff = 0.0;
  double reach() const { return cutoff > angular_cutoff ? cutoff : angular_cutoff; }
  std::unique_ptr<Descriptors> descriptors;
  std::vector<Network> networks;    // one of each element
};

class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The potential in `text`; `name` is the file's, for messages. Throws ModelError.
Model read_model(const std::string &name, const std::string &text);

}    // namespace mlmd
