// SPDX-License-Identifier: MIT
// How a filter is called, and those filters that work on sequences.
#pragma once

#include "io/jinja/evaluator.h"

namespace qwerky::jinja {

/// input | name(arguments)
struct FilterCall {
  Evaluator& e;
  const std::string& name;
  const Value& input;
  const Arguments& arguments;
  const Bound* bound;  ///< null for filters that take any arguments
  const Bound& b() const { return *bound; }
};

Value selected(const FilterCall& c);
Value mapped(const FilterCall& c);
Value extreme(const FilterCall& c);
Value unique(const FilterCall& c);
Value joined(const FilterCall& c);
Value reversed(const FilterCall& c);
Value dict_sorted(const FilterCall& c);
Value items_of(const FilterCall& c);
Value summed(const FilterCall& c);
Value ends(const FilterCall& c);
Value in_order(const FilterCall& c);

}  // namespace qwerky::jinja
