// SPDX-License-Identifier: MIT
// Where NCCL was not there at build time: MPI reads device memory through the host.
#include "backend/collective.h"

namespace qwerky {

Collective& between_devices(Collective& ranks) { return ranks; }

}  // namespace qwerky
