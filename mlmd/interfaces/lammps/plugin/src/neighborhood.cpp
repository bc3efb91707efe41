#include "neighborhood.h"

#include <cmath>

namespace mlmd {

Neighborhood::Neighborhood(int species, double reach, double angular_cutoff) :
    species_(species), reach_square_(reach * reach), angular_square_(angular_cutoff * angular_cutoff),
    start_(2 * species + 1), at_(2 * species + 1)
{
}

void Neighborhood::clear()
{
  raw_.clear();
}

void Neighborhood::finish()
{
  const int count = static_cast<int>(raw_.size());
  for (auto *array : {&x, &y, &z, &square, &distance, &inverse, &along}) array->resize(count);
  atom.resize(count);
  place.resize(4 * count);
  pull.assign(4 * count, 0.0);

  for (int &start : start_) start = 0;
  for (const Raw &raw : raw_) start_[raw.key + 1]++;
  for (int key = 0; key < 2 * species_; key++) start_[key + 1] += start_[key];
  at_ = start_;
  for (const Raw &raw : raw_) {
    const int n = at_[raw.key]++;
    x[n] = place[4 * n] = raw.x;
    y[n] = place[4 * n + 1] = raw.y;
    z[n] = place[4 * n + 2] = raw.z;
    place[4 * n + 3] = 0.0;
    square[n] = raw.square;
    atom[n] = raw.atom;
  }
#pragma omp simd
  for (int n = 0; n < count; n++) {
    distance[n] = std::sqrt(square[n]);
    inverse[n] = 1.0 / distance[n];
    along[n] = 0.0;
  }
}

}    // namespace mlmd
