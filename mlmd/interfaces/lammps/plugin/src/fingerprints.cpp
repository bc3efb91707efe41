#include "fingerprints.h"

#include <cmath>
#include <limits>

namespace mlmd {

namespace {

void grow(std::vector<double> &array, std::size_t count)
{
  if (array.size() < count) array.resize(count);
}

}    // namespace

Fingerprints::Fingerprints(const FingerprintSet &set) :
    set_(set), radial_(set.cutoff), angular_(set.angular_cutoff), triplets_(std::numeric_limits<double>::infinity()),
    channels_(set.species * (set.species + 1) / 2),
    features_(set.species * set.two_body + channels_ * set.three_body), sum_(features_), pair_(set.two_body),
    triplet_(set.three_body)
{
}

void Fingerprints::values(const Neighborhood &around, int center, double *out)
{
  const int count = around.size();
  const double *u = around.square.data();
  for (auto *array : {&near_, &near_slope_, &inner_, &inner_slope_, &leaning_}) grow(*array, count);
  double *near = near_.data(), *near_slope = near_slope_.data();
  double *inner = inner_.data(), *inner_slope = inner_slope_.data();
  const Cutoff radial = radial_, angular = angular_;
#pragma omp simd
  for (int n = 0; n < count; n++) {
    near[n] = radial.value(u[n]);
    near_slope[n] = near[n] * radial.ratio(u[n]);
    inner[n] = angular.value(u[n]);
    inner_slope[n] = inner[n] * angular.ratio(u[n]);
  }
  pair_values(around, center, out);
  triplet_values(around, center, out);
  for (int f = 0; f < features_; f++) {
    sum_[f] = out[f] + set_.floor;
    out[f] = std::log(sum_[f]);
  }
}

void Fingerprints::pair_values(const Neighborhood &around, int center, double *out)
{
  const double *near = near_.data();
  for (int a = 0; a < set_.two_body; a++) {
    grow(pair_[a], around.size());
    double *pair = pair_[a].data();
    for (int b = 0; b < set_.species; b++) {
      const double alpha = set_.alpha[center][b * set_.two_body + a];
      const int first = around.first(b), last = around.last(b);
      double sum = 0.0;
#pragma omp simd reduction(+ : sum)
      for (int n = first; n < last; n++) {
        pair[n] = exponential(alpha * near[n]);
        sum += near[n] * pair[n];
      }
      out[b * set_.two_body + a] = sum;
    }
  }
}

void Fingerprints::triplet_values(const Neighborhood &around, int center, double *out)
{
  triplets_.find(around);
  const std::size_t count = triplets_.size();
  const int *j = triplets_.j.data(), *k = triplets_.k.data();
  const double *cosine = triplets_.cosine.data(), *inner = inner_.data();
  grow(overlap_, count);
  double *overlap = overlap_.data(), *leaning = leaning_.data();
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) overlap[t] = 0.5 * (1.0 + cosine[t]) * inner[j[t]] * inner[k[t]];
  for (int g = 0; g < set_.three_body; g++) {
    grow(triplet_[g], count);
    double *triplet = triplet_[g].data();
    for (int channel = 0; channel < channels_; channel++) {
      const double beta = set_.beta[center][channel * set_.three_body + g];
      const double gamma = set_.gamma[center][channel * set_.three_body + g];
      const std::size_t first = triplets_.first(channel), last = triplets_.last(channel);
#pragma omp simd
      for (int n = 0; n < around.size(); n++) leaning[n] = exponential(gamma * inner[n]);
      double sum = 0.0;
#pragma omp simd reduction(+ : sum)
      for (std::size_t t = first; t < last; t++) {
        triplet[t] = exponential(beta * overlap[t]) * leaning[j[t]] * leaning[k[t]];
        sum += overlap[t] * triplet[t];
      }
      out[set_.species * set_.two_body + channel * set_.three_body + g] = sum;
    }
  }
}

void Fingerprints::gradient(Neighborhood &around, int center, const double *slope)
{
  pair_gradient(around, center, slope);
  triplet_gradient(around, center, slope);
}

void Fingerprints::pair_gradient(Neighborhood &around, int center, const double *slope)
{
  const double *near = near_.data(), *near_slope = near_slope_.data();
  double *along = around.along.data();
  for (int a = 0; a < set_.two_body; a++) {
    const double *pair = pair_[a].data();
    for (int b = 0; b < set_.species; b++) {
      const int f = b * set_.two_body + a, first = around.first(b), last = around.last(b);
      const double alpha = set_.alpha[center][f], weight = 2.0 * slope[f] / sum_[f];
#pragma omp simd
      for (int n = first; n < last; n++) along[n] += weight * pair[n] * (1.0 + alpha * near[n]) * near_slope[n];
    }
  }
}

// With X = sum of T E: dX/dT = E (1 + beta T), and by D'_j beside that gamma T E; dT/dcos = D'_j D'_k/2.
void Fingerprints::triplet_gradient(Neighborhood &around, int center, const double *slope)
{
  const std::size_t count = triplets_.size();
  for (auto *array : {&by_overlap_, &explicit_, &bend_, &left_, &right_}) grow(*array, count);
  double *by_overlap = by_overlap_.data(), *by_near = explicit_.data();
  double *bend = bend_.data(), *left = left_.data(), *right = right_.data();
  const double *overlap = overlap_.data(), *cosine = triplets_.cosine.data();
  const int *j = triplets_.j.data(), *k = triplets_.k.data();
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) by_overlap[t] = by_near[t] = 0.0;
  for (int g = 0; g < set_.three_body; g++) {
    const double *triplet = triplet_[g].data();
    for (int channel = 0; channel < channels_; channel++) {
      const int p = channel * set_.three_body + g, f = set_.species * set_.two_body + p;
      const double beta = set_.beta[center][p], gamma = set_.gamma[center][p], weight = slope[f] / sum_[f];
      const std::size_t first = triplets_.first(channel), last = triplets_.last(channel);
#pragma omp simd
      for (std::size_t t = first; t < last; t++) {
        const double one = weight * triplet[t];
        by_overlap[t] += one * (1.0 + beta * overlap[t]);
        by_near[t] += one * gamma * overlap[t];
      }
    }
  }
  const double *inner = inner_.data(), *inner_slope = inner_slope_.data(), *inverse = around.inverse.data();
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) {
    const double dj = inner[j[t]], dk = inner[k[t]], ij = inverse[j[t]], ik = inverse[k[t]];
    const double half = 0.5 * (1.0 + cosine[t]) * by_overlap[t], turn = 0.5 * dj * dk * by_overlap[t];
    const double rolled = turn * cosine[t];
    bend[t] = turn * ij * ik;
    left[t] = 2.0 * (half * dk + by_near[t]) * inner_slope[j[t]] - rolled * ij * ij;
    right[t] = 2.0 * (half * dj + by_near[t]) * inner_slope[k[t]] - rolled * ik * ik;
  }
  triplets_.scatter(around, bend, left, right);
}

}    // namespace mlmd
