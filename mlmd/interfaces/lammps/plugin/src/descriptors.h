// What every kind of descriptors offers: numbers that describe an atom's surroundings, and their derivatives.
#pragma once

#include "neighborhood.h"

namespace mlmd {

class Descriptors {
 public:
  virtual ~Descriptors() = default;

  virtual int features() const = 0;

  // The descriptors of an atom of kind `center` with neighbours `around`, into `out`.
  virtual void values(const Neighborhood &around, int center, double *out) = 0;

  // Adds sum_f slope[f] dG_f/d(neighbours) to the gradient of `around`; it follows `values` for the same atom.
  virtual void gradient(Neighborhood &around, int center, const double *slope) = 0;
};

}    // namespace mlmd
