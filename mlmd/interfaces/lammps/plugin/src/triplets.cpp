#include "triplets.h"

namespace mlmd {

void Triplets::find(const Neighborhood &around)
{
  const int species = around.species();
  std::size_t inner = 0;
  for (int b = 0; b < species; b++) inner += around.inner(b) - around.first(b);
  // One more than there can be: `row` writes before it knows whether a triplet counts.
  const std::size_t most = inner * inner / 2 + 1;
  if (j.size() < most) {
    for (auto *array : {&j, &k}) array->resize(most);
    for (auto *array : {&cosine, &square}) array->resize(most);
  }
  if (row_cosine_.size() < static_cast<std::size_t>(around.size()))
    for (auto *array : {&row_cosine_, &row_square_}) array->resize(around.size());

  rows_.clear();
  start_.assign(1, 0);
  std::size_t count = 0;
  for (int b = 0; b < species; b++)
    for (int c = b; c < species; c++) {
      for (int n = around.first(b); n < around.inner(b); n++)
        row(around, n, b == c ? n + 1 : around.first(c), around.inner(c), count);
      start_.push_back(count);
    }
}

void Triplets::row(const Neighborhood &around, int n, int begin, int end, std::size_t &count)
{
  const double *x = around.x.data(), *y = around.y.data(), *z = around.z.data();
  const double *inverse = around.inverse.data();
  const double xj = x[n], yj = y[n], zj = z[n], ij = inverse[n];
  double *cosines = row_cosine_.data(), *distances = row_square_.data();
#pragma omp simd
  for (int m = begin; m < end; m++) {
    const double dot = xj * x[m] + yj * y[m] + zj * z[m];
    const double dx = xj - x[m], dy = yj - y[m], dz = zj - z[m];
    cosines[m] = dot * ij * inverse[m];
    distances[m] = dx * dx + dy * dy + dz * dz;
  }
  const std::size_t first = count;
  int *js = j.data(), *ks = k.data();
  double *cs = cosine.data(), *ss = square.data();
  for (int m = begin; m < end; m++) {
    js[count] = n;
    ks[count] = m;
    cs[count] = cosines[m];
    ss[count] = distances[m];
    count += distances[m] < reach_square_;
  }
  if (count > first) rows_.push_back({n, first, count});
}

void Triplets::scatter(Neighborhood &around, const double *bend, const double *left, const double *right) const
{
  const double *place = around.place.data();
  double *pull = around.pull.data(), *along = around.along.data();
  for (const Row &row : rows_) {
    const double *own = place + 4 * row.j;
    double sum[4] = {0.0, 0.0, 0.0, 0.0}, straight = 0.0;
    for (std::size_t t = row.first; t < row.last; t++) {
      const int m = k[t];
      const double *other = place + 4 * m;
      double *target = pull + 4 * m;
      for (int a = 0; a < 4; a++) {
        sum[a] += bend[t] * other[a];
        target[a] += bend[t] * own[a];
      }
      straight += left[t];
      along[m] += right[t];
    }
    for (int a = 0; a < 4; a++) pull[4 * row.j + a] += sum[a];
    along[row.j] += straight;
  }
}

}    // namespace mlmd
