// Symmetry functions G1 to G5 of J. Behler, J. Chem. Phys. 134, 074106 (2011), equations 5 to 9, and their derivatives.
//
// Features of an atom, in this order: for each kind b of neighbours G1, G2..., G3...; then for each pair of kinds
// b <= c G4..., G5.... G1 to G3 have their own cutoff, G4 and G5 the angular one.
//
// G4 and G5 are sums of A(r_j) A(r_k) J(r_jk^2) (1 + lambda cos)^zeta, where A = exp(-eta r^2) f_c, and J likewise
// for G4 and 1 for G5. Functions with the same eta share A and J (a "decay"), functions with the same lambda and
// zeta share the power (a "shape").
#pragma once

#include <array>
#include <vector>

#include "descriptors.h"
#include "triplets.h"
#include "vector_math.h"

namespace mlmd {

struct SymmetryFunctionSet {
  int species = 1;
  double cutoff = 0.0, angular_cutoff = 0.0;
  bool g1 = false;
  std::vector<std::array<double, 2>> g2;    // eta, r_s
  std::vector<double> g3;                   // kappa
  std::vector<std::array<double, 3>> g4;    // eta, zeta, lambda
  std::vector<std::array<double, 3>> g5;
};

class SymmetryFunctions : public Descriptors {
 public:
  explicit SymmetryFunctions(const SymmetryFunctionSet &set);

  int features() const override { return features_; }
  void values(const Neighborhood &around, int center, double *out) override;
  void gradient(Neighborhood &around, int center, const double *slope) override;

 private:
  struct Shape {
    double lambda, zeta;
    int base;     // number of its lambda
    int whole;    // zeta - 1 where zeta is whole, -1 otherwise
    const double *power;           // (1 + lambda c)^(zeta - 1) of each triplet, in `own` or in its base
    std::vector<double> own;
  };
  struct Member {
    int shape, feature;    // feature: its place among those of a channel
    double factor;         // 2^(1 - zeta)
  };
  struct Decay {
    double eta;
    bool closed;    // J is there: G4
    std::vector<Member> members;                 // those of one base after those of another
    std::vector<double> single;                  // A of each neighbour
    std::vector<double> product;                 // A A J of each triplet
    std::vector<std::vector<double>> lifted;     // A A J (1 + lambda c) of each triplet, for each base
  };
  struct Base {
    double lambda;
    int squarings;    // the powers 1, 2, 4, ... 2^squarings are needed
    std::vector<std::vector<double>> power;
  };

  void member(bool closed, const std::array<double, 3> &function, int feature);
  void radial_values(const Neighborhood &around, double *out);
  void radial_gradient(Neighborhood &around, const double *slope);
  void powers(std::size_t count);
  void products(const Neighborhood &around);
  void weighted(const Decay &decay, const double *slope, std::size_t first, std::size_t last, double *by_value,
                double *by_slope) const;
  void angular_gradient(Neighborhood &around);

  SymmetryFunctionSet set_;
  Cutoff radial_, angular_;
  Triplets triplets_;
  int radial_count_, angular_count_, features_;
  std::vector<Shape> shapes_;
  std::vector<Decay> decays_;
  std::vector<Base> bases_;
  // Of each neighbour: f_c, f_c'/f_c by r^2, both cutoffs; the exponential of each G2 and the cosine of each G3.
  std::vector<double> cut_, ratio_, angular_cut_, angular_ratio_;
  std::vector<std::vector<double>> bell_, wave_;
  // Of each triplet: dE/d(cos), sums of products over decays, weighted with the network's slopes and with eta.
  std::vector<double> turn_, total_, decayed_, closed_, closed_decayed_, by_value_, by_slope_, bend_, left_, right_;
};

}    // namespace mlmd
