#include "pair_nn_manybody.h"

#include <cmath>
#include <cstring>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

using namespace LAMMPS_NS;

namespace {

constexpr int most_examples = 5;

std::string joined(const std::vector<std::string> &names)
{
  std::string all;
  for (const std::string &name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

}    // namespace

PairNNManybody::PairNNManybody(LAMMPS *lmp) : Pair(lmp), outside_now_{0.0, 0.0}, warn_every_(100), stop_share_(1.0)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
  nextra = 2;
  pvector = outside_now_;
}

PairNNManybody::~PairNNManybody()
{
  pvector = nullptr;
  if (copymode) return;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairNNManybody::allocate()
{
  allocated = 1;
  const int types = atom->ntypes + 1;
  memory->create(setflag, types, types, "pair:setflag");
  memory->create(cutsq, types, types, "pair:cutsq");
  map = new int[types];
}

void PairNNManybody::settings(int narg, char **arg)
{
  warn_every_ = 100;
  stop_share_ = 1.0;
  for (int n = 0; n < narg; n += 2) {
    if (n + 1 == narg) error->all(FLERR, "pair_style nn/manybody: {} wants a number after it", arg[n]);
    if (std::strcmp(arg[n], "warn") == 0) {
      warn_every_ = utils::inumeric(FLERR, arg[n + 1], false, lmp);
      if (warn_every_ < 0) error->all(FLERR, "pair_style nn/manybody: warn wants a number of steps, or 0 for never");
    } else if (std::strcmp(arg[n], "stop") == 0) {
      stop_share_ = utils::numeric(FLERR, arg[n + 1], false, lmp);
      if (stop_share_ < 0.0 || stop_share_ > 1.0)
        error->all(FLERR, "pair_style nn/manybody: stop wants a share of the atoms, from 0 to 1");
    } else
      error->all(FLERR, "pair_style nn/manybody: '{}' is no option; there are warn and stop", arg[n]);
  }
}

void PairNNManybody::coeff(int narg, char **arg)
{
  if (!allocated) allocate();
  if (narg != 3 + atom->ntypes || std::strcmp(arg[0], "*") != 0 || std::strcmp(arg[1], "*") != 0)
    error->all(FLERR, "pair_coeff of nn/manybody: * *, the model's file, and an element or NULL for each of {} atom "
               "types", atom->ntypes);
  map_element2type(narg - 3, arg + 3);

  try {
    model_ = std::make_unique<mlmd::Model>(mlmd::read_model(arg[2], text_of(arg[2])));
  } catch (const mlmd::ModelError &problem) {
    error->all(FLERR, "pair_style nn/manybody: {}", problem.what());
  }
  const char *units = model_->units == "metal" ? "metal" : "lj";
  if (std::strcmp(update->unit_style, units) != 0)
    error->all(FLERR, "pair_style nn/manybody: {} is in {} units: 'units {}', not {}", arg[2], model_->units, units,
               update->unit_style);

  kind_of_type_.assign(atom->ntypes + 1, -1);
  for (int type = 1; type <= atom->ntypes; type++) {
    if (map[type] < 0) continue;
    const std::string name = elements[map[type]];
    for (std::size_t kind = 0; kind < model_->elements.size(); kind++)
      if (model_->elements[kind] == name) kind_of_type_[type] = static_cast<int>(kind);
    if (kind_of_type_[type] < 0)
      error->all(FLERR, "pair_style nn/manybody: {} has no element {}; it has {}", arg[2], name,
                 joined(model_->elements));
  }
  around_ = std::make_unique<mlmd::Neighborhood>(static_cast<int>(model_->elements.size()), model_->reach(),
                                                 model_->angular_cutoff);
  values_.resize(model_->descriptors->features());
  slope_.resize(model_->descriptors->features());
}

// The file's text, read by the first rank and sent to all.
std::string PairNNManybody::text_of(const std::string &file)
{
  std::string text;
  bigint length = -1;
  if (comm->me == 0) {
    if (FILE *stream = utils::open_potential(file, lmp, nullptr)) {
      char buffer[65536];
      std::size_t got;
      while ((got = std::fread(buffer, 1, sizeof buffer, stream)) > 0) text.append(buffer, got);
      std::fclose(stream);
      length = static_cast<bigint>(text.size());
    }
  }
  MPI_Bcast(&length, 1, MPI_LMP_BIGINT, 0, world);
  if (length < 0) error->all(FLERR, "pair_style nn/manybody: {} cannot be read: is the path right?", file);
  if (length > MAXSMALLINT) error->all(FLERR, "pair_style nn/manybody: {} is longer than any potential", file);
  text.resize(length);
  MPI_Bcast(&text[0], static_cast<int>(length), MPI_CHAR, 0, world);
  return text;
}

void PairNNManybody::init_style()
{
  if (!force->newton_pair) error->all(FLERR, "pair_style nn/manybody: needs 'newton on'");
  if (!atom->tag_enable) error->all(FLERR, "pair_style nn/manybody: needs atom IDs");
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairNNManybody::init_one(int i, int j)
{
  if (setflag[i][j] == 0) error->all(FLERR, "pair_style nn/manybody: no coefficients for types {} and {}", i, j);
  return model_->reach();
}

void PairNNManybody::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  outside_.assign(atom->nlocal, 0.0);
  examples_.clear();
  int seen = 0;
  for (int n = 0; n < list->inum; n++) {
    const int i = list->ilist[n];
    const int kind = kind_of_type_[atom->type[i]];
    if (kind < 0) continue;
    surroundings(i, list->numneigh[i]);
    model_->descriptors->values(*around_, kind, values_.data());
    const double energy = model_->networks[kind].energy(values_.data(), slope_.data());
    if (!std::isfinite(energy))
      error->one(FLERR, "pair_style nn/manybody: the energy of atom {} is not finite: it lies on another one, or left",
                 atom->tag[i]);
    look_outside(i, kind, seen);
    model_->descriptors->gradient(*around_, kind, slope_.data());
    forces(i, eflag, vflag, energy);
  }
  outside_now_[0] = seen;
  outside_now_[1] += seen;
  if (vflag_fdotr) virial_fdotr_compute();
  if (warn_every_ && update->ntimestep % warn_every_ == 0) tell();
}

void PairNNManybody::surroundings(int i, int count)
{
  const double *const *x = atom->x;
  const int *type = atom->type, *neighbors = list->firstneigh[i];
  const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
  around_->clear();
  for (int m = 0; m < count; m++) {
    const int j = neighbors[m] & NEIGHMASK;
    const int kind = kind_of_type_[type[j]];
    if (kind >= 0) around_->add(j, kind, x[j][0] - xi, x[j][1] - yi, x[j][2] - zi);
  }
  around_->finish();
}

// Forces are minus the gradient. The whole of sum_j d_j dE_i/dd_j is given to atom i as its virial: E_i does not change
// under rotation, so that this sum, unlike that of a single pair, is a symmetric tensor.
void PairNNManybody::forces(int i, int eflag, int vflag, double energy)
{
  const mlmd::Neighborhood &around = *around_;
  double **f = atom->f;
  double fx = 0.0, fy = 0.0, fz = 0.0, stress[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  for (int n = 0; n < around.size(); n++) {
    const double x = around.x[n], y = around.y[n], z = around.z[n];
    const double gx = around.along[n] * x + around.pull[4 * n];
    const double gy = around.along[n] * y + around.pull[4 * n + 1];
    const double gz = around.along[n] * z + around.pull[4 * n + 2];
    double *const target = f[around.atom[n]];
    target[0] -= gx;
    target[1] -= gy;
    target[2] -= gz;
    fx += gx;
    fy += gy;
    fz += gz;
    if (vflag && vflag_atom) {
      stress[0] -= x * gx;
      stress[1] -= y * gy;
      stress[2] -= z * gz;
      stress[3] -= x * gy;
      stress[4] -= x * gz;
      stress[5] -= y * gz;
    }
  }
  f[i][0] += fx;
  f[i][1] += fy;
  f[i][2] += fz;
  if (eflag && eflag_global) eng_vdwl += energy;
  if (eflag && eflag_atom) eatom[i] += energy;
  if (vflag && vflag_atom)
    for (int a = 0; a < 6; a++) vatom[i][a] += stress[a];
}

void PairNNManybody::look_outside(int i, int kind, int &seen)
{
  int first = 0;
  const int count = model_->networks[kind].outside(values_.data(), first);
  if (!count) return;
  outside_[i] = count;
  if (seen++ < most_examples) {
    examples_.push_back(static_cast<int>(atom->tag[i]));
    examples_.push_back(first + 1);
  }
}

// One line about all ranks together; the examples are those of the first rank that has some.
void PairNNManybody::tell()
{
  double seen = 0.0;
  MPI_Allreduce(&outside_now_[0], &seen, 1, MPI_DOUBLE, MPI_SUM, world);
  if (seen == 0.0) return;
  const int mine = examples_.empty() ? comm->nprocs : comm->me;
  int teller = 0;
  MPI_Allreduce(&mine, &teller, 1, MPI_INT, MPI_MIN, world);
  int length = static_cast<int>(examples_.size());
  MPI_Bcast(&length, 1, MPI_INT, teller, world);
  examples_.resize(length);
  MPI_Bcast(examples_.data(), length, MPI_INT, teller, world);
  std::string atoms;
  for (int n = 0; n < length; n += 2)
    atoms += fmt::format("{}{} (descriptor {})", n ? ", " : "", examples_[n], examples_[n + 1]);
  const std::string text = fmt::format(
      "nn/manybody: step {}: {:.0f} of {} atoms lie outside of the range of training, among them {}", update->ntimestep,
      seen, atom->natoms, atoms);
  if (seen > stop_share_ * static_cast<double>(atom->natoms)) error->all(FLERR, text);
  if (comm->me == 0) error->warning(FLERR, text);
}

void PairNNManybody::finish()
{
  double total = 0.0;
  MPI_Allreduce(&outside_now_[1], &total, 1, MPI_DOUBLE, MPI_SUM, world);
  if (total > 0.0 && comm->me == 0)
    utils::logmesg(lmp, "nn/manybody: {:.0f} times an atom lay outside of the range of training\n", total);
}

void *PairNNManybody::extract_peratom(const char *name, int &columns)
{
  if (std::strcmp(name, "outside") != 0) return nullptr;
  columns = 0;
  return outside_.data();
}

double PairNNManybody::memory_usage()
{
  return Pair::memory_usage() + static_cast<double>(outside_.capacity()) * sizeof(double);
}
