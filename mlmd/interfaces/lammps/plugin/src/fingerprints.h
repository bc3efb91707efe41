// Self-trained fingerprints: F. G. Mattioli, F. Sciortino, J. Russo, J. Chem. Phys. 158, 104501 (2023), for any number
// of species, and their derivatives.
//
// With D = f_c(r), D' the same for the angular cutoff, T = (1 + cos)/2 D'_j D'_k and a small floor e0:
//   two-body, of each kind b:          ln(sum_j D_j exp(alpha D_j) + e0)
//   three-body, of each pair b <= c:   ln(sum_jk T exp(beta T + gamma (D'_j + D'_k)) + e0)
// alpha, beta, gamma are a centre species' own. Features: all two-body ones, kind by kind, then all three-body ones.
#pragma once

#include <vector>

#include "descriptors.h"
#include "triplets.h"
#include "vector_math.h"

namespace mlmd {

struct FingerprintSet {
  int species = 1, two_body = 0, three_body = 0;
  double cutoff = 0.0, angular_cutoff = 0.0, floor = 0.0;
  // Of each centre species: alpha [kind][function], beta and gamma [pair of kinds][function], row by row.
  std::vector<std::vector<double>> alpha, beta, gamma;
};

class Fingerprints : public Descriptors {
 public:
  explicit Fingerprints(const FingerprintSet &set);

  int features() const override { return features_; }
  void values(const Neighborhood &around, int center, double *out) override;
  void gradient(Neighborhood &around, int center, const double *slope) override;

 private:
  void pair_values(const Neighborhood &around, int center, double *out);
  void triplet_values(const Neighborhood &around, int center, double *out);
  void pair_gradient(Neighborhood &around, int center, const double *slope);
  void triplet_gradient(Neighborhood &around, int center, const double *slope);

  FingerprintSet set_;
  Cutoff radial_, angular_;
  Triplets triplets_;
  int channels_, features_;
  // Of each neighbour: D, dD/d(r^2), both cutoffs; of each function, the sum whose logarithm is the feature.
  std::vector<double> near_, near_slope_, inner_, inner_slope_, sum_;
  // Of each function, exponentials of each neighbour (two-body) and each triplet (three-body); of each triplet T.
  std::vector<std::vector<double>> pair_, triplet_;
  std::vector<double> leaning_, overlap_, by_overlap_, explicit_, bend_, left_, right_;
};

}    // namespace mlmd
