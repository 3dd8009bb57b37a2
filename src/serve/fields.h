// SPDX-License-Identifier: MIT
// The fields of a JSON request: each is asked for by name, with its type and range; what nobody asked for is refused.
#pragma once

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/options.h"
#include "serve/request_error.h"

namespace qwerky::serve {

/// A field that is null counts as absent. `object` must outlive it.
class Fields {
 public:
  /// `where` comes before names in messages, such as "stream_options.".
  explicit Fields(const OrderedJson& object, std::string where = {}) : object_(object), where_(std::move(where)) {
    if (!object.is_object())
      throw RequestError(
          400, concat(where_.empty() ? "the body" : where_, ": expected an object, found ", object.type_name()),
          where_);
  }

  const OrderedJson* find(const std::string& name) {
    known_.insert(name);
    const auto at = object_.find(name);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  /// Harmless fields: accepted, without effect.
  void accept(std::initializer_list<const char*> names) { known_.insert(names.begin(), names.end()); }

  bool flag(const std::string& name, bool otherwise) {
    const OrderedJson* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) refuse(name, "true or false", *value);
    return value->get<bool>();
  }
  int64_t whole(const std::string& name, int64_t otherwise, int64_t least, int64_t most) {
    const OrderedJson* value = find(name);
    if (value == nullptr) return otherwise;
    const auto number = value->is_number() ? internal::whole_number<int64_t>(Json(*value)) : std::nullopt;
    if (!number || *number < least || *number > most)
      refuse(name, concat("a whole number from ", least, " to ", most), *value);
    return *number;
  }
  double number(const std::string& name, double otherwise, double least, double most) {
    const OrderedJson* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_number() || !(value->get<double>() >= least && value->get<double>() <= most))
      refuse(name, concat("a number from ", least, " to ", most), *value);
    return value->get<double>();
  }
  std::string text(const std::string& name, const std::string& otherwise = {}) {
    const OrderedJson* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) refuse(name, "text", *value);
    return value->get<std::string>();
  }
  /// One text or a list of them.
  std::vector<std::string> texts(const std::string& name, size_t most) {
    const OrderedJson* value = find(name);
    if (value == nullptr) return {};
    if (value->is_string()) return {value->get<std::string>()};
    if (!value->is_array() || value->size() > most)
      refuse(name, concat("text or a list of at most ", most, " texts"), *value);
    std::vector<std::string> out;
    for (const OrderedJson& item : *value) {
      if (!item.is_string()) refuse(name, "a list of texts", item);
      out.push_back(item.get<std::string>());
    }
    return out;
  }

  [[noreturn]] void refuse(const std::string& name, const std::string& expected, const OrderedJson& found) const {
    std::string shown = found.is_primitive() && !found.is_string() ? found.dump() : found.type_name();
    refuse_field(where_ + name, "expected ", expected, ", found ", shown);
  }

  /// Throws for the first field that nobody asked for.
  void finish() const {
    for (const auto& [key, value] : object_.items())
      if (!known_.contains(key)) {
        const std::string name =
            where_ + OrderedJson(key.substr(0, 80)).dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
        throw RequestError(400, concat("unknown field ", name), where_ + key.substr(0, 80), "unknown_field");
      }
  }

 private:
  const OrderedJson& object_;
  std::string where_;
  std::set<std::string> known_;
};

}  // namespace qwerky::serve
