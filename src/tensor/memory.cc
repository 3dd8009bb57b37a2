// SPDX-License-Identifier: MIT
#include "tensor/memory.h"

#include <atomic>

namespace qwerky {
namespace {

std::atomic<DeviceMemory*> installed{nullptr};

}  // namespace

void use_device_memory(DeviceMemory* memory) { installed = memory; }
DeviceMemory* device_memory() { return installed.load(std::memory_order_relaxed); }

}  // namespace qwerky
