// SPDX-License-Identifier: MIT
// Where blocks of memory come from when a device other than the CPU computes. This layer knows no device: a backend
// installs its memory, and every Block taken from then on is memory that host and device both address.
#pragma once

#include <cstdint>
#include <string>

namespace qwerky {

class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  /// Zero-filled, at least 64-byte aligned. Throws Error when there is not enough; `purpose` names it in the message.
  /// `on_host`: it stays in the host's memory, where the device reads and writes it.
  virtual void* allocate(int64_t bytes, const std::string& purpose, bool on_host) = 0;
  virtual void release(void* memory) noexcept = 0;
  /// Bytes that allocate() can still give.
  virtual int64_t available() = 0;
  /// Returns when everything queued on the device is done.
  virtual void wait() = 0;
};

/// Every Block from now on. `memory` lives until the process ends; null: plain memory again.
void use_device_memory(DeviceMemory* memory);
DeviceMemory* device_memory();

/// Operations of a backend on a device are queued. The host calls this before it reads what they write, or writes or
/// frees what they read. Free where there is no device.
inline void wait_for_device() {
  if (DeviceMemory* memory = device_memory()) memory->wait();
}

}  // namespace qwerky
