// pair_style nn/manybody [warn N] [stop SHARE]
// pair_coeff * * model.nn Si O ...
//
// A potential of atomic networks, as `mlmd export` writes it; the names after the file say which element each atom
// type is, NULL for a type that the potential leaves alone. Every N steps (100; 0: never) a warning tells of atoms
// whose descriptors lie outside of the range of training, over all ranks, with their tags; where they are more than
// SHARE of all atoms, the run stops.
//
// compute ID all pair nn/manybody: c_ID[1] atoms outside in this step, c_ID[2] the sum over all steps so far.
// fix ID all pair 1 nn/manybody outside 0: f_ID[1] how many of its descriptors lie outside, for each atom.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model_file.h"
#include "neighborhood.h"
#include "pair.h"

namespace LAMMPS_NS {

class PairNNManybody : public Pair {
 public:
  explicit PairNNManybody(class LAMMPS *lmp);
  ~PairNNManybody() override;

  void compute(int eflag, int vflag) override;
  void settings(int narg, char **arg) override;
  void coeff(int narg, char **arg) override;
  void init_style() override;
  double init_one(int i, int j) override;
  void finish() override;
  void *extract_peratom(const char *name, int &columns) override;
  double memory_usage() override;

 private:
  void allocate();
  std::string text_of(const std::string &file);
  void surroundings(int i, int kind_count);
  void forces(int i, int eflag, int vflag, double energy);
  void look_outside(int i, int kind, int &seen);
  void tell();

  std::unique_ptr<mlmd::Model> model_;
  std::unique_ptr<mlmd::Neighborhood> around_;
  std::vector<int> kind_of_type_;
  std::vector<double> values_, slope_;

  // What lies outside of the range of training: of each atom, its descriptors; of the step and of all steps, atoms.
  std::vector<double> outside_;
  std::vector<int> examples_;    // pairs of a tag and the number of the descriptor
  double outside_now_[2];
  int warn_every_;
  double stop_share_;
};

}    // namespace LAMMPS_NS
