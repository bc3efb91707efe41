// Elementary functions as polynomials, without branches, so that loops over them run in vectors.
// Each is right to a few units in the last place of double precision; no fast-math is needed.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace mlmd {

// e^x for x below 709; below -708 it stays at e^-708, which is zero for every purpose here.
// e^x = 2^n e^t with |t| <= ln(2)/2, and Taylor's series to t^13 (the next term is 4e-18).
inline double exponential(double x)
{
  constexpr double log2_e = 1.4426950408889634074;
  constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  // Added to a small number it leaves the nearest whole number in the lowest bits.
  constexpr double rounder = 6755399441055744.0;
  x = x < -708.0 ? -708.0 : x;
  x = x > 709.0 ? 709.0 : x;
  const double shifted = x * log2_e + rounder;
  const double n = shifted - rounder;
  const double t = (x - n * ln2_high) - n * ln2_low;
  double sum = 1.0 / 6227020800.0;
  sum = sum * t + 1.0 / 479001600.0;
  sum = sum * t + 1.0 / 39916800.0;
  sum = sum * t + 1.0 / 3628800.0;
  sum = sum * t + 1.0 / 362880.0;
  sum = sum * t + 1.0 / 40320.0;
  sum = sum * t + 1.0 / 5040.0;
  sum = sum * t + 1.0 / 720.0;
  sum = sum * t + 1.0 / 120.0;
  sum = sum * t + 1.0 / 24.0;
  sum = sum * t + 1.0 / 6.0;
  sum = sum * t + 0.5;
  sum = sum * t + 1.0;
  sum = sum * t + 1.0;
  std::int64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<std::int64_t>((static_cast<std::uint64_t>(bits) << 52) + (std::uint64_t{1023} << 52));
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return sum * power;
}

// tanh to 1e-16 absolute.
inline double hyperbolic_tangent(double x)
{
  return 1.0 - 2.0 / (exponential(2.0 * x) + 1.0);
}

// f_c(r) = (cos(pi r/R) + 1)/2 = C(w)^2 with C(w) = cos(sqrt(w)), w = (pi r/2R)^2 in [0, pi^2/4]: a polynomial in
// u = r^2, and zero beyond R. The square keeps its digits near R. `ratio` is f_c'/f_c by u.
struct Cutoff {
  double square, factor;

  explicit Cutoff(double radius = 1.0) : square(radius * radius), factor(M_PI * M_PI / (4.0 * radius * radius)) {}

  inline double value(double u) const
  {
    const double c = half(u * factor);
    return u < square ? c * c : 0.0;
  }

  inline double ratio(double u) const
  {
    double c = half(u * factor);
    c = c < 1e-30 ? 1e-30 : c;
    return u < square ? 2.0 * factor * half_slope(u * factor) / c : 0.0;
  }

 private:
  static inline double half(double w)
  {
    double sum = -1.0 / 1.1240007277776077e21;
    sum = sum * w + 1.0 / 2.43290200817664e18;
    sum = sum * w - 1.0 / 6.402373705728e15;
    sum = sum * w + 1.0 / 2.0922789888e13;
    sum = sum * w - 1.0 / 87178291200.0;
    sum = sum * w + 1.0 / 479001600.0;
    sum = sum * w - 1.0 / 3628800.0;
    sum = sum * w + 1.0 / 40320.0;
    sum = sum * w - 1.0 / 720.0;
    sum = sum * w + 1.0 / 24.0;
    sum = sum * w - 0.5;
    return sum * w + 1.0;
  }

  static inline double half_slope(double w)
  {
    double sum = 1.0 / 5.109094217170944e19;
    sum = sum * w - 1.0 / 1.21645100408832e17;
    sum = sum * w + 1.0 / 3.55687428096e14;
    sum = sum * w - 1.0 / 1.307674368e12;
    sum = sum * w + 1.0 / 6227020800.0;
    sum = sum * w - 1.0 / 39916800.0;
    sum = sum * w + 1.0 / 362880.0;
    sum = sum * w - 1.0 / 5040.0;
    sum = sum * w + 1.0 / 120.0;
    sum = sum * w - 1.0 / 6.0;
    return -0.5 * (sum * w + 1.0);
  }
};

}    // namespace mlmd
