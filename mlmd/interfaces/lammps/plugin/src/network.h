// The network of one species: x = (G - center) scale, hidden layers h <- tanh(h K + b), the last one linear.
// J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007).
#pragma once

#include <vector>

namespace mlmd {

class Network {
 public:
  // kernels: rows [in][out] one after the other, biases [out], one of each for every layer.
  Network(std::vector<double> center, std::vector<double> scale, std::vector<double> low, std::vector<double> high,
          const std::vector<std::vector<double>> &kernels, const std::vector<std::vector<double>> &biases);

  int features() const { return static_cast<int>(center_.size()); }

  // The energy at descriptors `values`, and into `slope` its derivatives by them.
  double energy(const double *values, double *slope) const;

  // How many of the descriptors lie outside of the range of training, and into `first` the number of the first.
  int outside(const double *values, int &first) const;

 private:
  // Outputs are padded to whole vectors: `stride` numbers a row.
  struct Layer {
    int in, out, stride;
    std::vector<double> kernel, bias;
    mutable std::vector<double> value, slope;
  };
  std::vector<double> center_, scale_, low_, high_;
  std::vector<Layer> layers_;
  mutable std::vector<double> input_;
};

}    // namespace mlmd
