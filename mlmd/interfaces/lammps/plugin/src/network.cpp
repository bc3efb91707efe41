#include "network.h"

#include <utility>

#include "vector_math.h"

namespace mlmd {

namespace {

constexpr int lanes = 8;

}    // namespace

Network::Network(std::vector<double> center, std::vector<double> scale, std::vector<double> low,
                 std::vector<double> high, const std::vector<std::vector<double>> &kernels,
                 const std::vector<std::vector<double>> &biases) :
    center_(std::move(center)), scale_(std::move(scale)), low_(std::move(low)), high_(std::move(high)),
    input_(center_.size())
{
  int in = features();
  for (std::size_t n = 0; n < kernels.size(); n++) {
    Layer layer;
    layer.in = in;
    layer.out = static_cast<int>(biases[n].size());
    layer.stride = (layer.out + lanes - 1) / lanes * lanes;
    layer.kernel.assign(static_cast<std::size_t>(layer.in) * layer.stride, 0.0);
    layer.bias.assign(layer.stride, 0.0);
    layer.value.assign(layer.stride, 0.0);
    layer.slope.assign(layer.stride, 0.0);
    for (int i = 0; i < layer.in; i++)
      for (int o = 0; o < layer.out; o++) layer.kernel[i * layer.stride + o] = kernels[n][i * layer.out + o];
    for (int o = 0; o < layer.out; o++) layer.bias[o] = biases[n][o];
    in = layer.out;
    layers_.push_back(std::move(layer));
  }
}

int Network::outside(const double *values, int &first) const
{
  int count = 0;
  for (int i = features() - 1; i >= 0; i--)
    if (values[i] < low_[i] || values[i] > high_[i]) {
      count++;
      first = i;
    }
  return count;
}

double Network::energy(const double *values, double *slope) const
{
  for (int i = 0; i < features(); i++) input_[i] = (values[i] - center_[i]) * scale_[i];
  const double *before = input_.data();
  for (const Layer &layer : layers_) {
    double *value = layer.value.data();
    const int stride = layer.stride;
    for (int o = 0; o < stride; o++) value[o] = layer.bias[o];
    const double *row = layer.kernel.data();
    int i = 0;
    for (; i + 4 <= layer.in; i += 4, row += 4 * stride) {
      const double h0 = before[i], h1 = before[i + 1], h2 = before[i + 2], h3 = before[i + 3];
      const double *r1 = row + stride, *r2 = r1 + stride, *r3 = r2 + stride;
#pragma omp simd
      for (int o = 0; o < stride; o++) value[o] += h0 * row[o] + h1 * r1[o] + h2 * r2[o] + h3 * r3[o];
    }
    for (; i < layer.in; i++, row += stride) {
      const double h = before[i];
#pragma omp simd
      for (int o = 0; o < stride; o++) value[o] += h * row[o];
    }
    if (&layer != &layers_.back()) {
#pragma omp simd
      for (int o = 0; o < stride; o++) value[o] = hyperbolic_tangent(value[o]);
    }
    before = value;
  }

  const double result = layers_.back().value[0];
  layers_.back().slope[0] = 1.0;
  for (int n = static_cast<int>(layers_.size()) - 1; n >= 0; n--) {
    const Layer &layer = layers_[n];
    const double *after = layer.slope.data();
    for (int i = 0; i < layer.in; i++) {
      const double *row = layer.kernel.data() + static_cast<std::size_t>(i) * layer.stride;
      double sum = 0.0;
#pragma omp simd reduction(+ : sum)
      for (int o = 0; o < layer.stride; o++) sum += row[o] * after[o];
      if (n == 0) {
        slope[i] = sum * scale_[i];
      } else {
        const double h = layers_[n - 1].value[i];
        layers_[n - 1].slope[i] = sum * (1.0 - h * h);
      }
    }
  }
  return result;
}

}    // namespace mlmd
