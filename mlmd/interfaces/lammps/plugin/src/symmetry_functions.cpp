#include "symmetry_functions.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlmd {

namespace {

constexpr int most_squarings = 20;

void grow(std::vector<double> &array, std::size_t count)
{
  if (array.size() < count) array.resize(count);
}

double dot(const double *a, const double *b, std::size_t first, std::size_t last)
{
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t t = first; t < last; t++) sum += a[t] * b[t];
  return sum;
}

template <int N> void product_of(const double *const *arrays, std::size_t count, double *out)
{
  const double *a = arrays[0], *b = arrays[N > 1], *c = arrays[N > 2 ? 2 : 0], *d = arrays[N > 3 ? 3 : 0];
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) {
    double product = a[t];
    if (N > 1) product *= b[t];
    if (N > 2) product *= c[t];
    if (N > 3) product *= d[t];
    out[t] = product;
  }
}

// The product of any number of arrays, element by element, up to four in one pass.
void multiply(const double *const *arrays, int many, std::size_t count, double *out)
{
  switch (many) {
    case 0:
      for (std::size_t t = 0; t < count; t++) out[t] = 1.0;
      return;
    case 1: return product_of<1>(arrays, count, out);
    case 2: return product_of<2>(arrays, count, out);
    case 3: return product_of<3>(arrays, count, out);
    default: product_of<4>(arrays, count, out);
  }
  for (int n = 4; n < many; n++) {
    const double *array = arrays[n];
#pragma omp simd
    for (std::size_t t = 0; t < count; t++) out[t] *= array[t];
  }
}

}    // namespace

SymmetryFunctions::SymmetryFunctions(const SymmetryFunctionSet &set) :
    set_(set), radial_(set.cutoff), angular_(set.angular_cutoff),
    triplets_(set.g5.empty() ? set.angular_cutoff : std::numeric_limits<double>::infinity())
{
  radial_count_ = static_cast<int>(set.g1 + set.g2.size() + set.g3.size());
  angular_count_ = static_cast<int>(set.g4.size() + set.g5.size());
  features_ = set.species * radial_count_ + set.species * (set.species + 1) / 2 * angular_count_;
  bell_.resize(set.g2.size());
  wave_.resize(set.g3.size());
  int feature = 0;
  for (const auto &function : set.g4) member(true, function, feature++);
  for (const auto &function : set.g5) member(false, function, feature++);
  for (Decay &decay : decays_) {
    decay.lifted.resize(bases_.size());
    std::stable_sort(decay.members.begin(), decay.members.end(), [this](const Member &one, const Member &other) {
      return shapes_[one.shape].base < shapes_[other.shape].base;
    });
  }
}

void SymmetryFunctions::member(bool closed, const std::array<double, 3> &function, int feature)
{
  const auto [eta, zeta, lambda] = function;
  std::size_t base = 0, shape = 0, decay = 0;
  while (base < bases_.size() && bases_[base].lambda != lambda) base++;
  if (base == bases_.size()) bases_.push_back({lambda, 0, {}});
  while (shape < shapes_.size() && (shapes_[shape].lambda != lambda || shapes_[shape].zeta != zeta)) shape++;
  if (shape == shapes_.size()) {
    const bool is_whole = zeta >= 1.0 && zeta == std::floor(zeta) && zeta <= std::ldexp(1.0, most_squarings);
    const int whole = is_whole ? static_cast<int>(zeta) - 1 : -1;
    int squarings = 0;
    for (int rest = whole; rest > 1; rest >>= 1) squarings++;
    if (squarings > bases_[base].squarings) bases_[base].squarings = squarings;
    shapes_.push_back({lambda, zeta, static_cast<int>(base), whole, nullptr, {}});
  }
  while (decay < decays_.size() && (decays_[decay].eta != eta || decays_[decay].closed != closed)) decay++;
  if (decay == decays_.size()) decays_.push_back({eta, closed, {}, {}, {}, {}});
  decays_[decay].members.push_back({static_cast<int>(shape), feature, std::exp2(1.0 - zeta)});
}

void SymmetryFunctions::values(const Neighborhood &around, int /*center*/, double *out)
{
  radial_values(around, out);
  if (!angular_count_) return;
  triplets_.find(around);
  powers(triplets_.size());
  products(around);
  double *angular = out + set_.species * radial_count_;
  const int channels = set_.species * (set_.species + 1) / 2;
  for (int channel = 0; channel < channels; channel++)
    for (const Decay &decay : decays_)
      for (const Member &one : decay.members) {
        const Shape &shape = shapes_[one.shape];
        angular[channel * angular_count_ + one.feature] = one.factor *
            dot(decay.lifted[shape.base].data(), shape.power, triplets_.first(channel), triplets_.last(channel));
      }
}

void SymmetryFunctions::radial_values(const Neighborhood &around, double *out)
{
  const int count = around.size();
  const double *u = around.square.data(), *r = around.distance.data();
  for (auto *array : {&cut_, &ratio_, &angular_cut_, &angular_ratio_}) grow(*array, count);
  double *cut = cut_.data(), *ratio = ratio_.data(), *inner = angular_cut_.data(), *inner_ratio = angular_ratio_.data();
  const Cutoff radial = radial_, angular = angular_;
#pragma omp simd
  for (int n = 0; n < count; n++) {
    cut[n] = radial.value(u[n]);
    ratio[n] = radial.ratio(u[n]);
    inner[n] = angular.value(u[n]);
    inner_ratio[n] = angular.ratio(u[n]);
  }
  for (std::size_t f = 0; f < set_.g2.size(); f++) {
    grow(bell_[f], count);
    double *bell = bell_[f].data();
    const auto [eta, shift] = set_.g2[f];
#pragma omp simd
    for (int n = 0; n < count; n++) bell[n] = exponential(-eta * (r[n] - shift) * (r[n] - shift));
  }
  for (std::size_t f = 0; f < set_.g3.size(); f++) {
    grow(wave_[f], count);
    for (int n = 0; n < count; n++) wave_[f][n] = std::cos(set_.g3[f] * r[n]);
  }
  for (int b = 0; b < set_.species; b++) {
    const int first = around.first(b), last = around.last(b);
    if (set_.g1) {
      double sum = 0.0;
      for (int n = first; n < last; n++) sum += cut[n];
      *out++ = sum;
    }
    for (const auto &bell : bell_) *out++ = dot(bell.data(), cut, first, last);
    for (const auto &wave : wave_) *out++ = dot(wave.data(), cut, first, last);
  }
}

void SymmetryFunctions::radial_gradient(Neighborhood &around, const double *slope)
{
  const double *r = around.distance.data(), *inverse = around.inverse.data();
  const double *cut = cut_.data(), *ratio = ratio_.data();
  double *along = around.along.data();
  for (int b = 0; b < set_.species; b++) {
    const int first = around.first(b), last = around.last(b);
    if (set_.g1) {
      const double weight = *slope++;
      for (int n = first; n < last; n++) along[n] += 2.0 * weight * cut[n] * ratio[n];
    }
    for (std::size_t f = 0; f < set_.g2.size(); f++) {
      const double weight = 2.0 * *slope++, *bell = bell_[f].data();
      const auto [eta, shift] = set_.g2[f];
#pragma omp simd
      for (int n = first; n < last; n++)
        along[n] += weight * bell[n] * cut[n] * (ratio[n] - eta * (r[n] - shift) * inverse[n]);
    }
    for (std::size_t f = 0; f < set_.g3.size(); f++) {
      const double weight = *slope++, kappa = set_.g3[f];
      for (int n = first; n < last; n++)
        along[n] += weight * cut[n] * (2.0 * wave_[f][n] * ratio[n] - kappa * std::sin(kappa * r[n]) * inverse[n]);
    }
  }
}

void SymmetryFunctions::powers(std::size_t count)
{
  const double *cosine = triplets_.cosine.data();
  for (Base &base : bases_) {
    base.power.resize(base.squarings + 1);
    for (auto &power : base.power) grow(power, count);
    double *one = base.power[0].data();
    const double lambda = base.lambda;
#pragma omp simd
    for (std::size_t t = 0; t < count; t++) {
      // A cosine may be rounded to beyond one.
      const double sum = 1.0 + lambda * cosine[t];
      one[t] = sum < 0.0 ? 0.0 : sum;
    }
    for (int n = 1; n <= base.squarings; n++) {
      const double *half = base.power[n - 1].data();
      double *whole = base.power[n].data();
#pragma omp simd
      for (std::size_t t = 0; t < count; t++) whole[t] = half[t] * half[t];
    }
  }
  for (Shape &shape : shapes_) {
    const Base &base = bases_[shape.base];
    const double *one = base.power[0].data();
    shape.power = one;
    if (shape.whole == 1) continue;
    grow(shape.own, count);
    double *own = shape.own.data();
    shape.power = own;
    if (shape.whole < 0) {
      for (std::size_t t = 0; t < count; t++) own[t] = std::pow(std::fmax(one[t], 1e-60), shape.zeta - 1.0);
    } else {
      // zeta - 1 as a sum of powers of two: a product of so many arrays.
      const double *power[most_squarings];
      int many = 0;
      for (int n = 0, rest = shape.whole; rest; n++, rest >>= 1)
        if (rest & 1) power[many++] = base.power[n].data();
      multiply(power, many, count, own);
    }
  }
}

void SymmetryFunctions::products(const Neighborhood &around)
{
  const int neighbors = around.size();
  const std::size_t count = triplets_.size();
  const double *u = around.square.data(), *square = triplets_.square.data(), *cut = angular_cut_.data();
  const int *j = triplets_.j.data(), *k = triplets_.k.data();
  const Cutoff angular = angular_;
  grow(bend_, count);
  double *closing = bend_.data();
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) closing[t] = angular.value(square[t]);
  for (Decay &decay : decays_) {
    grow(decay.single, neighbors);
    grow(decay.product, count);
    double *single = decay.single.data(), *product = decay.product.data();
    const double eta = decay.eta;
#pragma omp simd
    for (int n = 0; n < neighbors; n++) single[n] = exponential(-eta * u[n]) * cut[n];
    if (decay.closed) {
#pragma omp simd
      for (std::size_t t = 0; t < count; t++)
        product[t] = exponential(-eta * square[t]) * closing[t] * single[j[t]] * single[k[t]];
    } else {
#pragma omp simd
      for (std::size_t t = 0; t < count; t++) product[t] = single[j[t]] * single[k[t]];
    }
    for (std::size_t base = 0; base < bases_.size(); base++) {
      grow(decay.lifted[base], count);
      double *lifted = decay.lifted[base].data();
      const double *one = bases_[base].power[0].data();
#pragma omp simd
      for (std::size_t t = 0; t < count; t++) lifted[t] = product[t] * one[t];
    }
  }
}

void SymmetryFunctions::gradient(Neighborhood &around, int /*center*/, const double *slope)
{
  radial_gradient(around, slope);
  if (!angular_count_) return;
  const std::size_t count = triplets_.size();
  for (auto *array : {&turn_, &total_, &decayed_, &closed_, &closed_decayed_, &by_value_, &by_slope_, &bend_, &left_,
                      &right_})
    grow(*array, count);
  double *turn = turn_.data(), *total = total_.data(), *decayed = decayed_.data();
  double *closed = closed_.data(), *closed_decayed = closed_decayed_.data();
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) turn[t] = total[t] = decayed[t] = closed[t] = closed_decayed[t] = 0.0;
  const int channels = set_.species * (set_.species + 1) / 2;
  for (int channel = 0; channel < channels; channel++) {
    const double *weights = slope + set_.species * radial_count_ + channel * angular_count_;
    const std::size_t first = triplets_.first(channel), last = triplets_.last(channel);
    for (const Decay &decay : decays_) {
      const double *product = decay.product.data(), *value = by_value_.data(), *by_cosine = by_slope_.data();
      double *sum = decay.closed ? closed : total, *eta_sum = decay.closed ? closed_decayed : decayed;
      const double eta = decay.eta;
      weighted(decay, weights, first, last, by_value_.data(), by_slope_.data());
#pragma omp simd
      for (std::size_t t = first; t < last; t++) {
        const double energy = product[t] * value[t];
        turn[t] += product[t] * by_cosine[t];
        sum[t] += energy;
        eta_sum[t] += eta * energy;
      }
    }
  }
  angular_gradient(around);
}

// Sums over the functions of one decay: weights 2^(1-zeta) slope times the shapes' values and derivatives by cos.
void SymmetryFunctions::weighted(const Decay &decay, const double *slope, std::size_t first, std::size_t last,
                                 double *by_value, double *by_slope) const
{
  const std::vector<Member> &members = decay.members;
  std::fill(by_value + first, by_value + last, 0.0);
  std::fill(by_slope + first, by_slope + last, 0.0);
  for (std::size_t f = 0; f < members.size();) {
    // Up to four of one base at a time; a missing one is the first with no weight.
    const int number = shapes_[members[f].shape].base;
    const double *power[4];
    double weight[4], turned[4];
    const std::size_t begin = f;
    for (std::size_t q = 0; q < 4; q++) {
      const bool there = f < members.size() && shapes_[members[f].shape].base == number;
      const Member &one = members[there ? f : begin];
      const Shape &shape = shapes_[one.shape];
      power[q] = shape.power;
      weight[q] = there ? slope[one.feature] * one.factor : 0.0;
      turned[q] = weight[q] * shape.zeta * shape.lambda;
      f += there;
    }
    const double w0 = weight[0], w1 = weight[1], w2 = weight[2], w3 = weight[3];
    const double t0 = turned[0], t1 = turned[1], t2 = turned[2], t3 = turned[3];
    const double *p0 = power[0], *p1 = power[1], *p2 = power[2], *p3 = power[3];
    const double *base = bases_[number].power[0].data();
#pragma omp simd
    for (std::size_t t = first; t < last; t++) {
      const double value = base[t] * (w0 * p0[t] + w1 * p1[t] + w2 * p2[t] + w3 * p3[t]);
      const double turn = t0 * p0[t] + t1 * p1[t] + t2 * p2[t] + t3 * p3[t];
      by_value[t] += value;
      by_slope[t] += turn;
    }
  }
}

// With W the energy of a triplet, V = sum of eta times it, Q = dE/d(cos), and R = f_c'/f_c by r^2:
// dE/d(r_j^2) = R_j W - V, dE/d(r_jk^2) = R_jk W - V of G4 alone, cos = (r_j.r_k)/(|r_j||r_k|).
void SymmetryFunctions::angular_gradient(Neighborhood &around)
{
  const std::size_t count = triplets_.size();
  const int *j = triplets_.j.data(), *k = triplets_.k.data();
  const double *cosine = triplets_.cosine.data(), *square = triplets_.square.data();
  const double *inverse = around.inverse.data(), *ratio = angular_ratio_.data();
  const double *turn = turn_.data(), *total = total_.data(), *decayed = decayed_.data();
  const double *closed = closed_.data(), *closed_decayed = closed_decayed_.data();
  double *bend = bend_.data(), *left = left_.data(), *right = right_.data();
  const Cutoff angular = angular_;
#pragma omp simd
  for (std::size_t t = 0; t < count; t++) {
    const double opposite = 2.0 * (angular.ratio(square[t]) * closed[t] - closed_decayed[t]);
    const double whole = total[t] + closed[t], damped = decayed[t] + closed_decayed[t];
    const double ij = inverse[j[t]], ik = inverse[k[t]], rolled = turn[t] * cosine[t];
    bend[t] = turn[t] * ij * ik - opposite;
    left[t] = opposite - rolled * ij * ij + 2.0 * (ratio[j[t]] * whole - damped);
    right[t] = opposite - rolled * ik * ik + 2.0 * (ratio[k[t]] * whole - damped);
  }
  triplets_.scatter(around, bend, left, right);
}

}    // namespace mlmd
