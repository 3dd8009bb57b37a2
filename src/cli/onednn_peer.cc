// SPDX-License-Identifier: MIT
#include "cli/onednn_peer.h"

#include <dlfcn.h>

namespace qwerky {

OneDnn open_onednn() {
  OneDnn found{"oneDNN was not there when this was built (Debian: libdnnl-dev)", nullptr};
#ifdef QWERKY_ONEDNN_MODULE
  void* module = dlopen(QWERKY_ONEDNN_MODULE, RTLD_NOW | RTLD_LOCAL);  // stays open: its threads do
  if (const auto entry = module ? reinterpret_cast<OneDnnEntry>(dlsym(module, "qwerky_onednn")) : nullptr) {
    entry(found);
  } else {
    found.about = std::string("oneDNN cannot be opened: ") + dlerror();
  }
#endif
  return found;
}

}  // namespace qwerky
