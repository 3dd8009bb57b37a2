// SPDX-License-Identifier: MIT
// Qwerky's own file: one model, every tensor where and how the products read it, so that a model starts by mapping the
// file. Little-endian:
//
//   "QWRKPACK", uint32 version (1), uint32 0, uint64 bytes of the header, the header (JSON), zeros up to 4 KiB,
//   data: tensors and files in the header's order, each at the next multiple of 64
//
// The header: config (as config.json), card (free), tensors and files. Read as hostile.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/files.h"
#include "tensor/params.h"

namespace qwerky {

bool is_packed(std::string_view bytes);

/// A mapped file, or bytes owned by the caller. Checked when opened: everything in the header, that entries follow each
/// other without overlap or holes, that sizes equal shape and format. Values are not read; see verify().
class PackedFile : public TensorSource {
 public:
  explicit PackedFile(const Path& path);
  PackedFile(std::string_view bytes, const std::string& name);
  std::string describe() const override { return name_; }
  std::vector<std::string> names() const override { return order_; }
  /// Rows of f32 or bf16, or matrices in panels [out, in] whatever the parameter's order is.
  Tensor find(std::string_view name) const override;
  bool checked() const override { return true; }

  const Json& config() const { return config_; }
  const Json& card() const { return card_; }
  /// Names and contents of the tokenizer's files.
  const std::map<std::string, std::string_view, std::less<>>& files() const { return files_; }
  int64_t bytes() const { return bytes_; }
  /// Reads all data and throws Error naming an entry whose SHA-256 is not that of the header.
  void verify() const;
  /// Of all entries, in order, as the header has them: not verified.
  std::string checksums() const;

 private:
  void parse(std::string_view bytes);
  std::unique_ptr<MappedFile> file_;
  std::string name_;
  Json config_, card_;
  std::vector<std::string> order_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string_view, std::less<>> files_;
  struct Sum {
    std::string what, sha256;
    std::string_view data;
  };
  std::vector<Sum> sums_;
  int64_t bytes_ = 0;
};

struct PackedContents {
  Json config, card;
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<std::pair<std::string, std::string>> files;
};

/// Written atomically. Returns the size of the file in bytes.
int64_t write_packed(const Path& path, const PackedContents& contents);

}  // namespace qwerky
