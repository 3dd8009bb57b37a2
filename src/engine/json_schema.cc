// SPDX-License-Identifier: MIT
#include "engine/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"
#include "engine/json_pattern.h"
#include "engine/json_rules.h"

namespace qwerky {
namespace {

using Place = ByteAutomaton::Place;
using Rule = ByteAutomaton::Rule;
using Names = std::set<std::string, std::less<>>;
constexpr auto kReturn = ByteAutomaton::kReturn;
constexpr auto kNoLimit = ByteAutomaton::kNoLimit;

/// Say nothing about which texts are valid.
const Names kAnnotations = {"$schema", "$id",         "$comment",      "$defs",      "definitions",
                            "title",   "description", "default",       "deprecated", "readOnly",
                            "example", "writeOnly",   "discriminator", "examples"};
const Names kApplicators = {"$ref", "allOf", "anyOf", "oneOf", "enum", "const", "type", "nullable"};
const std::map<std::string, Names, std::less<>> kKeywordsOfType = {
    {"object", {"properties", "required", "additionalProperties"}},
    {"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}},
    {"string", {"minLength", "maxLength", "pattern", "format"}},
    {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}},
    {"integer", {}},
    {"boolean", {}},
    {"null", {}}};

/// Subsets of what RFC 3339, RFC 4122, RFC 2673 and RFC 5321 allow: no 29th of February, no quoted mailboxes.
std::string_view pattern_of_format(std::string_view format) {
#define QWERKY_DATE                                     \
  "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])" \
  "|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
#define QWERKY_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
  if (format == "date") return "^" QWERKY_DATE "$";
  if (format == "time") return "^" QWERKY_TIME "$";
  if (format == "date-time") return "^" QWERKY_DATE "T" QWERKY_TIME "$";
  if (format == "uuid") return "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
  if (format == "ipv4")
    return "^(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}$";
  if (format == "email")
    return "^[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,31})?@[A-Za-z0-9]{1,63}(\\.[A-Za-z0-9]{1,63}){1,2}$";
#undef QWERKY_DATE
#undef QWERKY_TIME
  return {};
}

/// The keywords of a schema or, where allOf and references are merged, of several: views of the document.
class Schema {
 public:
  Schema() = default;
  explicit Schema(const OrderedJson& object) {
    for (const auto& [name, value] : object.get_ref<const OrderedJson::object_t&>()) all_.push_back({name, {&value}});
  }

  struct Keyword {
    std::string_view name;
    std::vector<const OrderedJson*> values;  ///< one; of properties and required, of all that are merged
  };
  const std::vector<Keyword>& all() const { return all_; }
  std::vector<const OrderedJson*> values(std::string_view name) const {
    const auto it = at(name);
    return it == all_.end() ? std::vector<const OrderedJson*>() : it->values;
  }
  /// Null where there is none.
  const OrderedJson* find(std::string_view name) const {
    const auto it = at(name);
    return it == all_.end() ? nullptr : it->values.front();
  }
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  void add(std::string_view name, const OrderedJson& value) {
    const auto it = at(name);
    if (it == all_.end()) return all_.push_back({name, {&value}});
    auto& values = all_[static_cast<size_t>(it - all_.begin())].values;
    if (std::find(values.begin(), values.end(), &value) == values.end()) values.push_back(&value);
  }

 private:
  std::vector<Keyword>::const_iterator at(std::string_view name) const {
    return std::find_if(all_.begin(), all_.end(), [&](const Keyword& k) { return k.name == name; });
  }
  std::vector<Keyword> all_;
};

class Compiler {
 public:
  /// All must outlive it.
  Compiler(JsonRules& rules, const OrderedJson& root, const std::string& where)
      : rules_(rules), a_(rules.a), root_(root), where_(where) {}

  Rule compile() { return rule_of(root_); }

 private:
  /// A step down the schema, for messages.
  class Step {
   public:
    Step(Compiler& c, std::string token) : c_(c) { c_.path_.push_back(std::move(token)); }
    ~Step() { c_.path_.pop_back(); }
    Step(const Step&) = delete;

   private:
    Compiler& c_;
  };

  std::string here() const {
    std::string pointer;
    for (const std::string& token : path_) {
      pointer += '/';
      for (char c : token.substr(0, 64)) pointer += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    }
    return where_ + ": " + (pointer.empty() ? "the schema" : pointer);
  }

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... what) const {
    fail(here(), ": ", what...);
  }

  Rule rule_of(const OrderedJson& schema) {
    constexpr size_t kDeepest = 200;
    const auto [it, fresh] = made_.emplace(&schema, -1);
    if (!fresh) return it->second;
    if (++depth_ > kDeepest) refuse("schemas and references are nested more than ", kDeepest, " deep");
    const Rule rule = it->second = a_.new_rule();
    a_.define(rule, place_of(schema));
    --depth_;
    return rule;
  }

  Rule rule_at(const Schema& schema, const char* keyword) {
    const Step step(*this, keyword);
    return rule_of(*schema.find(keyword));
  }
  Rule rule_at(const OrderedJson& list, size_t i) {
    const Step step(*this, std::to_string(i));
    return rule_of(list[i]);
  }

  Place place_of(const OrderedJson& s) {
    if (s.is_boolean()) return s.get<bool>() ? a_.call(rules_.any, kReturn) : rules_.never;
    if (!s.is_object()) refuse("expected an object, found ", s.type_name());
    return place_of(Schema(s));
  }

  Place place_of(const Schema& s) {
    int constraints = 0;
    for (const auto& keyword : s.all()) {
      const std::string key(keyword.name);
      const bool of_type = std::any_of(kKeywordsOfType.begin(), kKeywordsOfType.end(),
                                       [&](const auto& entry) { return entry.second.contains(key); });
      if (of_type || kApplicators.contains(key)) {
        constraints += key == "nullable" ? 0 : 1;
      } else if (!kAnnotations.contains(key)) {
        const Step step(*this, key);
        refuse("this keyword cannot be enforced");
      }
    }
    std::vector<Place> ways;
    if (const auto* it = s.find("nullable")) {
      if (!it->is_boolean()) refuse("nullable: expected a boolean, found ", it->type_name());
      if (it->get<bool>()) ways.push_back(a_.bytes("null", kReturn));
    }
    ways.push_back(place_without_null(s, constraints == 1));
    return rules_.either(ways);
  }

  /// `one`: it has one keyword that says something.
  Place place_without_null(const Schema& s, bool one) {
    if (const auto* it = s.find("$ref"); it != nullptr && one) {
      Place place = rules_.never;
      follow(*it, [&](const OrderedJson& schema) { place = a_.call(rule_of(schema), kReturn); });
      return place;
    }
    if (const auto* it = s.find("allOf"); it != nullptr && one && it->is_array() && it->size() == 1) {
      const Step step(*this, "allOf");
      return a_.call(rule_at(*it, size_t{0}), kReturn);
    }
    if (s.contains("$ref") || s.contains("allOf")) {
      Schema merged;
      for (const auto& [key, values] : s.all()) merge(merged, key, *values.front(), 0);
      return place_of(merged);
    }
    if (s.contains("enum") || s.contains("const")) {
      expect_only(s, {"enum", "const", "type", "nullable"}, "enum or const");
      return values(s);
    }
    std::vector<Place> ways;
    if (s.contains("anyOf") || s.contains("oneOf")) {
      const char* keyword = s.contains("anyOf") ? "anyOf" : "oneOf";
      expect_only(s, {keyword, "nullable"}, keyword);
      const Step step(*this, keyword);
      const OrderedJson& schemas = array(*s.find(keyword));
      for (size_t i = 0; i < schemas.size(); ++i) ways.push_back(a_.call(rule_at(schemas, i), kReturn));
    } else {
      for (const std::string& type : types(s)) ways.push_back(place_of_type(s, type));
    }
    return rules_.either(ways);
  }

  void expect_only(const Schema& s, const Names& names, const char* what) {
    for (const auto& [key, values] : s.all())
      if (!names.contains(key) && !kAnnotations.contains(key)) {
        const Step step(*this, std::string(key));
        refuse("cannot be enforced beside ", what);
      }
  }

  const OrderedJson& array(const OrderedJson& value) {
    if (!value.is_array()) refuse("expected an array, found ", value.type_name());
    return value;
  }

  /// Calls `use` with the schema that a reference leads to, where `path_` is its pointer.
  template <class Use>
  void follow(const OrderedJson& reference, Use use) {
    std::vector<std::string> path;
    const OrderedJson& schema = target(reference, path);
    struct Exchange {  // for as long as it lives, also while an error passes
      std::vector<std::string>&here, &there;
      Exchange(std::vector<std::string>& a, std::vector<std::string>& b) : here(a), there(b) { here.swap(there); }
      ~Exchange() { here.swap(there); }
    } exchange(path_, path);
    use(schema);
  }

  const OrderedJson& target(const OrderedJson& reference, std::vector<std::string>& path) {
    const Step step(*this, "$ref");
    if (!reference.is_string()) refuse("expected a string, found ", reference.type_name());
    const auto& text = reference.get_ref<const std::string&>();
    if (text != "#" && !text.starts_with("#/")) refuse("only references into this schema (#/…) are followed");
    const OrderedJson* at = &root_;
    for (size_t begin = 2; begin <= text.size();) {
      const size_t end = std::min(text.find('/', begin), text.size());
      std::string token;
      for (size_t i = begin; i < end; ++i) {
        const bool escaped = text[i] == '~' && i + 1 < end && (text[i + 1] == '0' || text[i + 1] == '1');
        token += !escaped ? text[i] : text[++i] == '0' ? '~' : '/';
      }
      const bool index = at->is_array() && !token.empty() && token.size() < 7 &&
                         token.find_first_not_of("0123456789") == token.npos && std::stoul(token) < at->size();
      if (index) {
        at = &(*at)[std::stoul(token)];
      } else if (at->is_object() && at->contains(token)) {
        at = &at->at(token);
      } else {
        refuse("\"", text.substr(0, 200), "\": there is no such place in this schema");
      }
      path.push_back(token);
      begin = end + 1;
    }
    return *at;
  }

  /// allOf, and a reference with keywords beside it, where each keyword stands in one part or is the same in all.
  void merge(Schema& into, const OrderedJson& from, int depth) {
    constexpr int kDeepest = 50;
    if (depth > kDeepest) refuse("more than ", kDeepest, " references lead to one another in what is merged");
    if (!from.is_object()) refuse("expected an object to merge, found ", from.type_name());
    for (const auto& [key, value] : from.get_ref<const OrderedJson::object_t&>()) merge(into, key, value, depth);
  }

  void merge(Schema& into, std::string_view key, const OrderedJson& value, int depth) {
    if (kAnnotations.contains(key)) return;
    count_merged();
    if (key == "$ref") return follow(value, [&](const OrderedJson& schema) { merge(into, schema, depth + 1); });
    const Step step(*this, std::string(key));
    if (key == "nullable") {  // that of the outermost is not merged
      if (depth > 0 && value != false) refuse("cannot be enforced in what is merged (allOf, or beside $ref)");
    } else if (key == "allOf") {
      for (size_t i = 0; i < array(value).size(); ++i) {
        const Step at(*this, std::to_string(i));
        merge(into, value[i], depth + 1);
      }
    } else if (key == "additionalProperties" && value != true) {
      refuse("cannot be enforced in what is merged (allOf, or beside $ref)");
    } else {
      const OrderedJson* other = into.find(key);
      if (other != nullptr && key != "properties" && key != "required") return expect_same(*other, value);
      into.add(key, value);
    }
  }

  void count_merged() {
    constexpr int kMost = 10000;
    if (++merged_keys_ > kMost) refuse("more than ", kMost, " keywords to merge");
  }

  void expect_same(const OrderedJson& a, const OrderedJson& b) {
    if (&a != &b && a != b) refuse("stands in two parts that are merged, and differs");
  }

  Place values(const Schema& s) {
    std::vector<std::string> texts;
    const OrderedJson *list = s.find("enum"), *only = s.find("const");
    const auto add = [&](const OrderedJson& value) {
      if (list != nullptr && only != nullptr && value != *only) return;
      if (!s.contains("type") || has_type(value, types(s))) texts.push_back(value.dump());
    };
    if (list != nullptr) {
      const Step step(*this, "enum");
      for (const OrderedJson& value : array(*list)) add(value);
    } else {
      add(*only);
    }
    return rules_.one_of_texts(std::move(texts), kReturn);
  }

  static bool has_type(const OrderedJson& value, const std::vector<std::string>& types) {
    const auto is = [&](const char* type) { return std::find(types.begin(), types.end(), type) != types.end(); };
    if (value.is_number()) {
      const double x = value.get<double>();
      return is("number") || (is("integer") && x == std::floor(x));
    }
    return is(value.type_name());
  }

  std::vector<std::string> types(const Schema& s) {
    std::vector<std::string> out;
    const auto add = [&](const OrderedJson& type) {
      if (!type.is_string() || !kKeywordsOfType.contains(type.get<std::string>()))
        refuse("expected object, array, string, number, integer, boolean or null, found ", type.dump().substr(0, 64));
      out.push_back(type);
    };
    if (const auto* it = s.find("type")) {
      const Step step(*this, "type");
      if (it->is_array())
        for (const OrderedJson& type : *it) add(type);
      else
        add(*it);
      return out;
    }
    // Without a type: that which the keywords speak of, if any.
    for (const auto& [type, keywords] : kKeywordsOfType)
      if (std::any_of(keywords.begin(), keywords.end(), [&](const auto& k) { return s.contains(k); }))
        out.push_back(type);
    if (out.empty()) out.push_back("any");
    return out;
  }

  Place place_of_type(const Schema& s, const std::string& type) {
    if (type == "any") return a_.call(rules_.any, kReturn);
    if (type == "null") return a_.bytes("null", kReturn);
    if (type == "boolean") return rules_.either({a_.bytes("true", kReturn), a_.bytes("false", kReturn)});
    if (type == "string") return string(s);
    if (type == "array") return list(s);
    if (type == "object") return object(s);
    return rules_.number(range(s), type == "integer", kReturn);
  }

  std::optional<int32_t> count(const Schema& s, const char* keyword) {
    const auto* it = s.find(keyword);
    if (it == nullptr) return std::nullopt;
    const double n = it->is_number() ? it->get<double>() : -1;
    if (!(n >= 0 && n <= INT32_MAX && n == std::floor(n)))
      refuse(keyword, ": expected a whole number from 0 to ", INT32_MAX, ", found ", it->dump().substr(0, 64));
    return static_cast<int32_t>(n);
  }

  Place string(const Schema& s) {
    const auto least = count(s, "minLength"), most = count(s, "maxLength");
    for (const char* keyword : {"pattern", "format"}) {
      const auto* it = s.find(keyword);
      if (it == nullptr) continue;
      const Step step(*this, keyword);
      if (least || most || (s.contains("pattern") && s.contains("format")))
        refuse("cannot be enforced beside minLength, maxLength, pattern or format");
      if (!it->is_string()) refuse("expected a string, found ", it->type_name());
      std::string pattern = *it;
      if (keyword == std::string_view("format")) {
        const std::string_view known = pattern_of_format(pattern);
        if (known.empty())
          refuse("\"", pattern.substr(0, 64), "\" cannot be enforced; date, time, date-time, uuid, ipv4 and email can");
        pattern = known;
      }
      return json_pattern(rules_, pattern, here(), kReturn);
    }
    return rules_.string(least.value_or(0), most.value_or(kNoLimit), kReturn);
  }

  NumberRange range(const Schema& s) {
    NumberRange out;
    const auto limit = [&](const char* keyword, bool low, bool open) {
      const auto* it = s.find(keyword);
      if (it == nullptr) return;
      const Step step(*this, keyword);
      if (!it->is_number()) refuse("expected a number, found ", it->type_name());
      constexpr auto kMost = static_cast<double>(NumberRange::kMost);
      const double x = it->get<double>();
      if (x != std::floor(x)) refuse(x, ": only whole numbers can be enforced as limits");
      if (low ? x <= -kMost : x >= kMost) return;
      if (low ? x >= kMost : x <= -kMost) refuse(x, ": numbers are written with at most 18 digits before the point");
      const int64_t whole = it->is_number_float() ? static_cast<int64_t>(x) : it->get<int64_t>();
      int64_t& end = low ? out.least : out.most;
      bool& outside = low ? out.above : out.below;
      if (whole == end) outside = outside || open;
      if (low ? whole > end : whole < end) end = whole, outside = open;
    };
    limit("minimum", true, false), limit("exclusiveMinimum", true, true);
    limit("maximum", false, false), limit("exclusiveMaximum", false, true);
    return out;
  }

  Place list(const Schema& s) {
    const int32_t least = count(s, "minItems").value_or(0), most = count(s, "maxItems").value_or(kNoLimit);
    if (const auto* it = s.find("uniqueItems"); it != nullptr && *it != false) {
      const Step step(*this, "uniqueItems");
      refuse("cannot be enforced");
    }
    std::optional<Rule> item;
    if (const auto* it = s.find("items")) {
      if (*it != false) item = rule_at(s, "items");
    } else if (!s.contains("prefixItems")) {
      item = rules_.any;
    }
    std::vector<Rule> first;
    if (s.contains("prefixItems")) {
      const Step step(*this, "prefixItems");
      const OrderedJson& prefix = array(*s.find("prefixItems"));
      for (size_t i = 0; i < prefix.size() && (most == kNoLimit || static_cast<int32_t>(i) < most); ++i)
        first.push_back(rule_at(prefix, i));
    }
    const auto fixed = static_cast<int32_t>(first.size());
    const int32_t more = !item ? 0 : most == kNoLimit ? kNoLimit : most - fixed;
    const Rule rest = item.value_or(rules_.any);
    if (fixed == 0) return a_.bytes("[", rules_.list(rest, least, more, ']', kReturn));
    Place then = rules_.list_rest(rest, std::max(0, least - fixed), more, ']', kReturn);
    for (int32_t i = fixed; i-- > 0;) {  // `then` goes on behind item i
      then = a_.call(first[static_cast<size_t>(i)], then);
      std::vector<Place> ways{i == 0 ? then : rules_.comma(then)};
      if (least <= i) ways.push_back(i == 0 ? a_.bytes("]", kReturn) : rules_.close(']', kReturn));
      then = rules_.either(ways);
    }
    return a_.bytes("[", rules_.space(then));
  }

  Place object(const Schema& s) {
    struct Property {
      std::string name;
      Rule value;
      bool required;
    };
    std::set<std::string> required;
    for (const OrderedJson* list : s.values("required")) {
      const Step step(*this, "required");
      for (const OrderedJson& name : array(*list)) {
        if (!name.is_string()) refuse("expected strings, found ", name.type_name());
        required.insert(name.get<std::string>());
      }
    }
    std::vector<Property> properties;
    std::map<std::string_view, const OrderedJson*> known;
    const auto parts = s.values("properties");
    for (const OrderedJson* part : parts) {
      const Step step(*this, "properties");
      if (!part->is_object()) refuse("expected an object, found ", part->type_name());
      for (const auto& [name, property] : part->get_ref<const OrderedJson::object_t&>()) {
        const Step at(*this, name);
        if (parts.size() > 1) count_merged();
        if (const auto [of_name, fresh] = known.emplace(name, &property); !fresh)
          expect_same(*of_name->second, property);
        else
          properties.push_back({name, rule_of(property), required.erase(name) > 0});
      }
    }
    std::optional<Rule> other;
    const auto* it = s.find("additionalProperties");
    if (it != nullptr ? *it != false : !s.contains("properties"))
      other = it == nullptr ? rules_.any : rule_at(s, "additionalProperties");
    for (const std::string& name : required) {
      if (it != nullptr && !other) {
        const Step step(*this, "required");
        refuse("\"", name.substr(0, 64), "\" is none of the properties, and additionalProperties is false");
      }
      properties.push_back({name, other.value_or(rules_.any), true});
    }

    std::vector<std::string> names;
    for (const Property& p : properties) names.push_back(p.name);
    // From the end: `rest` goes on behind a member, `first` begins with one of the members that are left.
    Place rest = rules_.close('}', kReturn);
    std::optional<Place> first;
    if (other) {
      const Place value = a_.bytes(":", rules_.space(a_.call(*other, kReturn)));
      const Rule member = a_.rule(names.empty() ? rules_.string(0, kNoLimit, value) : rules_.other_key(names, value));
      rest = rules_.list_rest(member, 0, kNoLimit, '}', kReturn);
      first = a_.call(member, rest);
    }
    bool may_end = true;
    for (size_t i = properties.size(); i-- > 0;) {
      const Property& p = properties[i];
      const std::string key = OrderedJson(p.name).dump() + ":";
      std::vector<Place> ways{a_.bytes(key, rules_.space(a_.call(p.value, rest)))};
      if (!p.required && first) ways.push_back(*first);
      first = rules_.either(ways);
      may_end = may_end && !p.required;
      ways.assign(1, rules_.comma(*first));
      if (may_end) ways.push_back(rules_.close('}', kReturn));
      rest = rules_.either(ways);
    }
    std::vector<Place> ways;
    if (first) ways.push_back(*first);
    if (may_end) ways.push_back(a_.bytes("}", kReturn));
    return a_.bytes("{", rules_.space(rules_.either(ways)));
  }

  JsonRules& rules_;
  ByteAutomaton& a_;
  const OrderedJson& root_;
  const std::string& where_;
  std::map<const OrderedJson*, Rule> made_;
  std::vector<std::string> path_;
  size_t depth_ = 0;
  int merged_keys_ = 0;
};

}  // namespace

ByteSet json_bytes() {
  ByteSet bytes;
  for (size_t b = 0x20; b < 0xC0; ++b) bytes.set(b);
  bytes.set('\n');
  return bytes;
}

std::shared_ptr<const ByteAutomaton> json_object_automaton() {
  auto automaton = std::make_shared<ByteAutomaton>();
  JsonRules rules(*automaton);
  const Rule root = automaton->rule(rules.space(automaton->call(rules.any_object, kReturn)));
  CHECK(automaton->finish(root, json_bytes()));
  return automaton;
}

std::shared_ptr<const ByteAutomaton> json_schema_automaton(const OrderedJson& schema, const std::string& where,
                                                           const ByteSet& bytes) {
  auto automaton = std::make_shared<ByteAutomaton>();
  JsonRules rules(*automaton);
  const Rule value = Compiler(rules, schema, where).compile();
  if (!automaton->finish(automaton->rule(rules.space(automaton->call(value, kReturn))), bytes))
    fail(where, ": no JSON text satisfies this schema");
  return automaton;
}

std::shared_ptr<const ByteAutomaton> calls_automaton(std::span<const NamedSchema> tools, const CallForm& form,
                                                     bool several, const std::string& where, const ByteSet& bytes) {
  auto automaton = std::make_shared<ByteAutomaton>();
  ByteAutomaton& a = *automaton;
  JsonRules rules(a);
  // The name comes before the arguments, and both between fixed texts: where a name ends, its tool is known.
  const Place end = a.bytes("}" + form.close, kReturn);
  std::vector<Place> ways;
  for (const NamedSchema& tool : tools) {
    const Rule arguments = Compiler(rules, tool.schema, concat(where, ": ", tool.name.substr(0, 64))).compile();
    ways.push_back(a.bytes(concat(OrderedJson(tool.name).dump(), ", \"", form.key, "\": "), a.call(arguments, end)));
  }
  const Rule call = a.rule(a.bytes(form.open + "{\"name\": ", a.either(ways)));
  const Rule next = a.rule(a.bytes(form.between, a.call(call, kReturn)));
  const Place more = several ? a.repeat(next, 0, kNoLimit, kReturn) : kReturn;
  if (!a.finish(a.rule(a.call(call, more)), bytes)) fail(where, ": no arguments satisfy the schema of any tool");
  return automaton;
}

}  // namespace qwerky
