// SPDX-License-Identifier: MIT
// The safetensors format: 8-byte little-endian header length, JSON header, tensor data. Read as hostile.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/files.h"
#include "tensor/arena.h"
#include "tensor/params.h"

namespace qwerky {

/// Tensors of one .safetensors file, mapped. Checked when opened: header length and depth, dtypes, shapes whose
/// product overflows, offsets inside the file, contiguous and without overlap, sizes that equal shape × dtype,
/// duplicate names.
class SafetensorsFile : public TensorSource {
 public:
  explicit SafetensorsFile(const Path& path);
  /// Parses bytes owned by the caller (fuzzing, tests).
  SafetensorsFile(std::string_view bytes, const std::string& name);
  std::string describe() const override { return name_; }
  std::vector<std::string> names() const override;
  Tensor find(std::string_view name) const override;
  void forget(std::string_view name) const override;
  bool prefetch(std::string_view name) const override;
  /// The "__metadata__" string map.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void parse(std::string_view bytes);
  std::unique_ptr<MappedFile> file_;
  std::string name_;
  std::vector<std::string> order_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<Block> moved_;  // copies of tensors that do not lie at a multiple of their element's size
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
  DType store_as;  ///< converted while writing
};

/// Writes one file atomically (temporary name, sync, rename), tensors in the given order, data 64-byte aligned.
void write_safetensors(const Path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});
/// The same into a file that the caller commits.
void write_safetensors(FileWriter& file, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace qwerky
