// SPDX-License-Identifier: MIT
#include "io/sentencepiece_model.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/tokenizer_formats.h"
#include "io/tokenizer_utf8.h"

namespace qwerky {

namespace {

/// One field of a protobuf message.
struct Field {
  uint64_t number = 0;
  int wire = 0;            // 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes
  uint64_t value = 0;      // wires 0, 1 and 5
  std::string_view bytes;  // wire 2
};

class FieldReader {
 public:
  explicit FieldReader(std::string_view bytes) : bytes_(bytes) {}
  bool done() const { return at_ == bytes_.size(); }
  /// False when malformed.
  bool next(Field& field) {
    uint64_t tag = 0, length = 0;
    if (!varint(tag)) return false;
    field.number = tag >> 3;
    field.wire = static_cast<int>(tag & 7);
    if (field.number == 0 || field.number > 0x1FFFFFFF) return false;
    switch (field.wire) {
      case 0: return varint(field.value);
      case 1: return fixed(8, field.value);
      case 5: return fixed(4, field.value);
      case 2:
        if (!varint(length) || length > bytes_.size() - at_) return false;
        field.bytes = bytes_.substr(at_, length);
        at_ += length;
        return true;
      default: return false;
    }
  }

 private:
  bool varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (at_ >= bytes_.size()) return false;
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      if (shift == 63 && byte > 1) return false;
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool fixed(size_t n, uint64_t& value) {
    if (bytes_.size() - at_ < n) return false;
    value = 0;
    std::memcpy(&value, bytes_.data() + at_, n);
    at_ += n;
    return true;
  }
  std::string_view bytes_;
  size_t at_ = 0;
};

template <class F>
void for_each_field(std::string_view bytes, const std::string& where, const F& f) {
  FieldReader reader(bytes);
  Field field;
  while (!reader.done()) {
    if (!reader.next(field)) fail(where, ": malformed protobuf");
    f(field);
  }
}

void expect_wire(const Field& field, int wire, const std::string& where) {
  if (field.wire != wire) fail(where, ": field ", field.number, " has wire type ", field.wire, ", expected ", wire);
}

/// Value of "<0xAB>", or -1.
int byte_of(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  const int high = digit(text[3]), low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/// precompiled_charsmap: u32 size of a Darts double array, the array, then the replacements, each ended by NUL.
/// Unit bits: 31 value (low 31 bits: offset of a replacement), 9 offset is shifted by 8, 10–30 offset. The child of
/// unit i for byte c is i ^ offset ^ c: no such index may leave the array, no value the replacements.
void check_charsmap(std::string_view map, const std::string& where) {
  if (map.empty()) return;
  uint32_t size = 0;
  if (map.size() <= 4) fail(where, ": normalisation table of ", map.size(), " bytes");
  std::memcpy(&size, map.data(), 4);
  if (size == 0 || size % 1024 != 0 || size >= map.size() - 4)
    fail(where, ": normalisation table: array of ", size, " bytes in a table of ", map.size());
  const std::string_view replacements = map.substr(4 + size);
  if (replacements.back() != '\0') fail(where, ": normalisation table: last replacement is not ended");
  // Replacements are written into text that must stay UTF-8.
  if (!is_utf8(replacements)) fail(where, ": normalisation table: replacements are not UTF-8");
  const uint32_t units = size / 4;
  for (uint32_t i = 0; i < units; ++i) {
    uint32_t unit = 0;
    std::memcpy(&unit, map.data() + 4 + size_t{4} * i, 4);
    if ((unit >> 31) != 0) {
      const uint32_t value = unit & 0x7FFFFFFFu;
      if (value >= replacements.size() ||
          (value > 0 && (static_cast<unsigned char>(replacements[value]) & 0xC0) == 0x80))
        fail(where, ": normalisation table: unit ", i, " points outside the replacements");
      continue;
    }
    const uint32_t offset = (unit >> 10) << ((unit & (1u << 9)) >> 6);
    if (((i ^ offset) | 0xFFu) >= units) fail(where, ": normalisation table: unit ", i, " points outside the array");
  }
}

void read_normalizer(std::string_view bytes, SentencePieceModel& model, const std::string& where) {
  for_each_field(bytes, where, [&](const Field& field) {
    switch (field.number) {
      case 2:
        expect_wire(field, 2, where);
        check_charsmap(field.bytes, where);
        model.has_charsmap = !field.bytes.empty();
        break;
      case 3: expect_wire(field, 0, where), model.add_dummy_prefix = field.value != 0; break;
      case 4: expect_wire(field, 0, where), model.remove_extra_whitespaces = field.value != 0; break;
      case 5: expect_wire(field, 0, where), model.escape_whitespaces = field.value != 0; break;
      default: break;
    }
  });
}

SentencePieceModel::Piece read_piece(std::string_view bytes, const std::string& where) {
  SentencePieceModel::Piece piece;
  for_each_field(bytes, where, [&](const Field& field) {
    if (field.number == 1) {
      expect_wire(field, 2, where);
      piece.text = field.bytes;
    } else if (field.number == 2) {
      expect_wire(field, 5, where);
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, 4);
    } else if (field.number == 3) {
      expect_wire(field, 0, where);
      if (field.value < 1 || field.value > 6) fail(where, ": unknown piece type ", field.value);
      piece.type = static_cast<int>(field.value);
    }
  });
  if (piece.text.empty()) fail(where, ": empty piece");
  if (piece.text.size() > 4096) fail(where, ": piece of ", piece.text.size(), " bytes");
  if (!is_utf8(piece.text) || piece.text.find('\0') != std::string::npos)
    fail(where, ": piece is not UTF-8 text without NUL");
  if (!std::isfinite(piece.score)) fail(where, ": score is not a number");
  if (piece.type == SentencePieceModel::kByte) {
    piece.byte = byte_of(piece.text);
    if (piece.byte < 0) fail(where, ": byte piece is not written <0x00> to <0xFF>");
  }
  return piece;
}

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string number_field(int number, uint64_t value) {
  return varint(static_cast<uint64_t>(number) << 3) + varint(value);
}
std::string bytes_field(int number, std::string_view bytes) {
  return (varint(static_cast<uint64_t>(number) << 3 | 2) + varint(bytes.size())).append(bytes);
}

}  // namespace

SentencePieceModel sentencepiece_of(const Vocabulary& vocabulary) {
  SentencePieceModel model;
  model.bpe = true;
  model.add_dummy_prefix = vocabulary.space_in_front;
  model.remove_extra_whitespaces = vocabulary.collapses_spaces;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const int type = vocabulary.types[i];
    model.pieces.push_back({vocabulary.tokens[i], vocabulary.scores[i],
                            type == Vocabulary::user_defined ? SentencePieceModel::kControl : type, -1});
  }
  return model;
}

std::string write_sentencepiece(const SentencePieceModel& model) {
  std::string out;
  bool bytes = false;
  for (const SentencePieceModel::Piece& piece : model.pieces) {
    std::string score(4, '\0');
    std::memcpy(score.data(), &piece.score, 4);
    out += bytes_field(1, bytes_field(1, piece.text) + varint(2 << 3 | 5) + score +
                              number_field(3, static_cast<uint64_t>(piece.type)));
    bytes = bytes || piece.type == SentencePieceModel::kByte;
  }
  out += bytes_field(2, number_field(3, model.bpe ? 2 : 1) + number_field(35, bytes ? 1 : 0));
  out +=
      bytes_field(3, bytes_field(1, "identity") + number_field(3, model.add_dummy_prefix) +
                         number_field(4, model.remove_extra_whitespaces) + number_field(5, model.escape_whitespaces));
  return out;
}

bool is_sentencepiece(std::string_view bytes) {
  if (bytes.size() < 4 || bytes[0] != '\x0a') return false;
  FieldReader reader(bytes);
  Field field;
  while (!reader.done())
    if (!reader.next(field) || (field.number <= 5 && field.wire != 2)) return false;
  return true;
}

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  bool whitespace_as_suffix = false;
  for_each_field(bytes, name, [&](const Field& field) {
    if (field.number > 5) return;
    expect_wire(field, 2, name);
    if (field.number == 1) {
      model.pieces.push_back(read_piece(field.bytes, concat(name, ": piece ", model.pieces.size())));
    } else if (field.number == 2) {
      for_each_field(field.bytes, name + ": trainer_spec", [&](const Field& f) {
        if (f.number == 24 && f.wire == 0) whitespace_as_suffix = f.value != 0;
        if (f.number == 3 && f.wire == 0) model.bpe = f.value == 2;
        if (f.number == 3 && f.wire == 0 && f.value != 1 && f.value != 2)
          fail(name, ": model_type ",
               f.value == 3   ? "WORD"
               : f.value == 4 ? "CHAR"
                              : "unknown",
               " is not supported; supported: UNIGRAM, BPE");
      });
    } else if (field.number == 3) {
      read_normalizer(field.bytes, model, name + ": normalizer_spec");
    } else if (field.number == 5) {
      SentencePieceModel ignored;
      read_normalizer(field.bytes, ignored, name + ": denormalizer_spec");
    }
  });
  if (model.pieces.empty()) fail(name, ": holds no pieces");
  if (whitespace_as_suffix) fail(name, ": treat_whitespace_as_suffix is not supported");
  return model;
}

}  // namespace qwerky
