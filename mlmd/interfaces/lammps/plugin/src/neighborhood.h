// The neighbours of one atom, sorted by species, those within the angular cutoff first, as separate arrays.
#pragma once

#include <vector>

namespace mlmd {

class Neighborhood {
 public:
  // Of `species` kinds; `reach`, the longer one of all cutoffs, and `angular_cutoff` in units of length.
  Neighborhood(int species, double reach, double angular_cutoff);

  void clear();

  // Takes a neighbour at (dx, dy, dz) from the centre, if it is near enough; `atom` is the caller's name for it.
  inline void add(int atom, int kind, double dx, double dy, double dz)
  {
    const double square = dx * dx + dy * dy + dz * dz;
    if (square < reach_square_) raw_.push_back({dx, dy, dz, square, atom, 2 * kind + (square >= angular_square_)});
  }

  // Sorts what was added, and clears the gradient.
  void finish();

  // The number of a pair of species b <= c, in the order (0,0), (0,1), ..., (1,1), ...
  int channel(int b, int c) const { return b * species_ - b * (b - 1) / 2 + (c - b); }

  int size() const { return static_cast<int>(atom.size()); }
  int species() const { return species_; }
  // Neighbours of kind b: first(b) to last(b), of which those before inner(b) lie within the angular cutoff.
  int first(int b) const { return start_[2 * b]; }
  int inner(int b) const { return start_[2 * b + 1]; }
  int last(int b) const { return start_[2 * b + 2]; }

  std::vector<int> atom;
  std::vector<double> x, y, z, square, distance, inverse;
  // (x, y, z, 0) of one neighbour after the other.
  std::vector<double> place;

  // dE/d(neighbour's position) = along * (x, y, z) + pull (4 numbers a neighbour, the last unused).
  std::vector<double> along, pull;

 private:
  struct Raw {
    double x, y, z, square;
    int atom, key;
  };
  int species_;
  double reach_square_, angular_square_;
  std::vector<Raw> raw_;
  std::vector<int> start_, at_;
};

}    // namespace mlmd
