// Pairs of neighbours j, k of one atom, for one pair of species after the other, as flat arrays.
#pragma once

#include <cstddef>
#include <vector>

#include "neighborhood.h"

namespace mlmd {

class Triplets {
 public:
  // `reach`: pairs whose distance r_jk is that or more are left out; infinite: all are there.
  explicit Triplets(double reach) : reach_square_(reach * reach) {}

  // All triplets of an atom; `channels` pairs of species b <= c in the order of Neighborhood::channel.
  void find(const Neighborhood &around);

  std::size_t size() const { return start_.back(); }
  std::size_t first(int channel) const { return start_[channel]; }
  std::size_t last(int channel) const { return start_[channel + 1]; }

  // Adds to the gradient of `around`: bend (d_k by d_j and d_j by d_k), left (by d_j itself) and right (by d_k itself).
  void scatter(Neighborhood &around, const double *bend, const double *left, const double *right) const;

  // The arrays may be longer than what is in them.
  std::vector<int> j, k;
  // cosine of the angle at the centre, r_jk^2.
  std::vector<double> cosine, square;

 private:
  struct Row {
    int j;
    std::size_t first, last;
  };
  void row(const Neighborhood &around, int j, int begin, int end, std::size_t &count);

  double reach_square_;
  std::vector<std::size_t> start_;
  std::vector<Row> rows_;
  std::vector<double> row_cosine_, row_square_;
};

}    // namespace mlmd
