#include "model_file.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "fingerprints.h"
#include "symmetry_functions.h"

namespace mlmd {

namespace {

constexpr int most = 1000000;

// The words of the text one by one, each with its line; from # to the end of a line is a remark.
class Words {
 public:
  Words(const std::string &name, const std::string &text) : name_(name)
  {
    std::istringstream lines(text);
    std::string line, word;
    for (int number = 1; std::getline(lines, line); number++) {
      std::istringstream words(line.substr(0, line.find('#')));
      while (words >> word) words_.push_back({word, number});
    }
  }

  [[noreturn]] void fail(const std::string &message) const
  {
    const int line = words_.empty() ? 1 : words_[at_ ? std::min(at_, words_.size()) - 1 : 0].line;
    throw ModelError(name_ + ", line " + std::to_string(line) + ": " + message);
  }

  std::string word(const std::string &what)
  {
    if (at_ == words_.size()) fail("the file ends where " + what + " should follow");
    return words_[at_++].text;
  }

  void expect(const std::string &wanted)
  {
    const std::string found = word("'" + wanted + "'");
    if (found != wanted) fail("'" + wanted + "' should stand here, not '" + found + "'");
  }

  // Takes the word if it is the next one.
  bool next_is(const std::string &wanted)
  {
    if (at_ == words_.size() || words_[at_].text != wanted) return false;
    at_++;
    return true;
  }

  double number(const std::string &what, bool finite = true)
  {
    const std::string text = word(what);
    char *end = nullptr;
    const double found = std::strtod(text.c_str(), &end);
    if (*end || end == text.c_str()) fail(what + " should be a number, not '" + text + "'");
    if (std::isnan(found) || (finite && std::isinf(found))) fail(what + " should be finite, not '" + text + "'");
    return found;
  }

  int count(const std::string &what, int least)
  {
    const double found = number(what);
    if (found != std::floor(found) || found < least || found > most)
      fail(what + " should be a whole number, " + std::to_string(least) + " or more");
    return static_cast<int>(found);
  }

  std::vector<double> numbers(const std::string &what, std::size_t count, bool finite = true)
  {
    expect(what);
    std::vector<double> found(count);
    for (double &one : found) one = number("a number of '" + what + "'", finite);
    return found;
  }

  // The words up to the end of the line.
  std::vector<std::string> rest_of_line()
  {
    std::vector<std::string> found;
    const int line = at_ ? words_[at_ - 1].line : 1;
    while (at_ < words_.size() && words_[at_].line == line) found.push_back(words_[at_++].text);
    return found;
  }

  bool done() const { return at_ == words_.size(); }

 private:
  struct Word {
    std::string text;
    int line;
  };
  std::string name_;
  std::vector<Word> words_;
  std::size_t at_ = 0;
};

template <std::size_t N>
std::vector<std::array<double, N>> functions(Words &words, const std::string &name)
{
  words.expect(name);
  std::vector<std::array<double, N>> found(words.count("the number of " + name, 0));
  for (auto &one : found)
    for (double &parameter : one) parameter = words.number("a parameter of " + name);
  return found;
}

void angular(Words &words, const std::string &name, std::vector<std::array<double, 3>> &found)
{
  found = functions<3>(words, name);
  for (const auto &one : found)
    if (one[1] < 1.0 || std::abs(one[2]) > 1.0)
      words.fail("zeta of " + name + " should be 1 or more, and lambda between -1 and 1");
}

std::unique_ptr<Descriptors> symmetry_functions(Words &words, const Model &model)
{
  SymmetryFunctionSet set;
  set.species = static_cast<int>(model.elements.size());
  set.cutoff = model.cutoff;
  set.angular_cutoff = model.angular_cutoff;
  words.expect("g1");
  set.g1 = words.count("g1", 0) != 0;
  set.g2 = functions<2>(words, "g2");
  for (const auto &one : functions<1>(words, "g3")) set.g3.push_back(one[0]);
  angular(words, "g4", set.g4);
  angular(words, "g5", set.g5);
  return std::make_unique<SymmetryFunctions>(set);
}

std::unique_ptr<Descriptors> fingerprints(Words &words, const Model &model)
{
  FingerprintSet set;
  set.species = static_cast<int>(model.elements.size());
  set.cutoff = model.cutoff;
  set.angular_cutoff = model.angular_cutoff;
  words.expect("floor");
  set.floor = words.number("floor");
  if (set.floor <= 0.0) words.fail("floor should be positive");
  words.expect("two_body");
  set.two_body = words.count("two_body", 0);
  words.expect("three_body");
  set.three_body = words.count("three_body", 0);
  const int channels = set.species * (set.species + 1) / 2;
  for (const std::string &element : model.elements) {
    words.expect("weights");
    words.expect(element);
    set.alpha.push_back(words.numbers("alpha", set.species * set.two_body));
    set.beta.push_back(words.numbers("beta", channels * set.three_body));
    set.gamma.push_back(words.numbers("gamma", channels * set.three_body));
  }
  return std::make_unique<Fingerprints>(set);
}

Network network(Words &words, const std::string &element, int features)
{
  words.expect("network");
  words.expect(element);
  words.expect("layers");
  std::vector<int> layers;
  for (const std::string &text : words.rest_of_line()) {
    const int units = std::atoi(text.c_str());
    if (units < 1 || units > most) words.fail("the layers should be numbers of units, not '" + text + "'");
    layers.push_back(units);
  }
  if (layers.size() < 2 || layers.front() != features || layers.back() != 1)
    words.fail("the layers should begin with " + std::to_string(features) + ", the descriptors, and end with 1");
  std::vector<double> center = words.numbers("center", features), scale = words.numbers("scale", features);
  std::vector<double> low = words.numbers("low", features, false), high = words.numbers("high", features, false);
  std::vector<std::vector<double>> kernels, biases;
  for (std::size_t n = 0; n + 1 < layers.size(); n++) {
    kernels.push_back(words.numbers("kernel", static_cast<std::size_t>(layers[n]) * layers[n + 1]));
    biases.push_back(words.numbers("bias", layers[n + 1]));
  }
  return Network(std::move(center), std::move(scale), std::move(low), std::move(high), kernels, biases);
}

}    // namespace

Model read_model(const std::string &name, const std::string &text)
{
  Words words(name, text);
  Model model;
  if (!words.next_is("mlmd-potential")) words.fail("this is no potential of mlmd: it does not begin 'mlmd-potential'");
  const int version = words.count("the version of the format", 1);
  if (version != 1) words.fail("this reads version 1 of the format, not " + std::to_string(version));
  words.expect("kind");
  const std::string kind = words.word("the kind");
  if (kind != "hdnnp" && kind != "fingerprints")
    words.fail("the kind should be hdnnp or fingerprints, not '" + kind + "'");
  words.expect("units");
  model.units = words.word("the units");
  if (model.units != "metal" && model.units != "reduced")
    words.fail("units should be metal or reduced, not '" + model.units + "'");
  words.expect("elements");
  model.elements = words.rest_of_line();
  if (model.elements.empty()) words.fail("there should be an element or more");
  words.expect("cutoff");
  model.cutoff = words.number("cutoff");
  words.expect("angular_cutoff");
  model.angular_cutoff = words.number("angular_cutoff");
  if (model.cutoff <= 0.0 || model.angular_cutoff <= 0.0) words.fail("cutoffs should be positive");
  model.descriptors = kind == "hdnnp" ? symmetry_functions(words, model) : fingerprints(words, model);
  for (const std::string &element : model.elements)
    model.networks.push_back(network(words, element, model.descriptors->features()));
  words.expect("end");
  if (!words.done()) words.fail("nothing should follow 'end'");
  return model;
}

}    // namespace mlmd
