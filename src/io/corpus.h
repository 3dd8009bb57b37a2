// SPDX-License-Identifier: MIT
// From bytes of corpus files to documents, as a stream: memory is one document and one chunk.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/shards.h"

namespace qwerky {

constexpr size_t kMostDocumentBytes = size_t{64} << 20;  ///< a longer document of .txt is cut
constexpr size_t kMostLineBytes = size_t{16} << 20;  ///< a longer line of .jsonl is refused: parsed, it grows 20 times

/// The files that `options.inputs` name, in order. Throws when an input is absent, has another suffix than those
/// known, or is a directory without such files or the one to leave out.
std::vector<Path> corpus_files(const CorpusOptions& options);

/// Documents of one file whose bytes are given; the suffix of `name` decides the format. `progress` gets the
/// bytes of this file done so far. Either may return false, which ends the reading; then this does, too.
bool read_documents(std::string_view bytes, const std::string& name, const CorpusOptions& options,
                    const EachDocument& each, const std::function<bool(int64_t)>& progress = nullptr);

/// As read_corpus, with progress over the bytes of all files.
bool read_corpus(const CorpusOptions& options, const std::vector<Path>& files, const EachDocument& each,
                 const std::function<void(int64_t, int64_t)>& progress);

}  // namespace qwerky
