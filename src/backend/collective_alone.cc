// SPDX-License-Identifier: MIT
// Where MPI was not there at build time.
#include <cstdlib>

#include "backend/collective.h"
#include "base/error.h"

namespace qwerky {

Collective& ranks_of_this_run() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const char* size = std::getenv(name); size && std::atoi(size) > 1)
      fail("mpirun started ", size,
           " processes, but this program was built without MPI: install libopenmpi-dev and "
           "build again, or start it without mpirun");
  return one_process();
}

std::string rank_name() { return ""; }

}  // namespace qwerky
