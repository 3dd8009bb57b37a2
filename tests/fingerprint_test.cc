// SPDX-License-Identifier: MIT
// What binds saved states and journals to a model.
#include "engine/fingerprint.h"

#include <gtest/gtest.h>

#include <set>

#include "base/parallel.h"
#include "golden_models.h"
#include "io/files.h"

namespace qwerky {
namespace {

/// States are bound to the model: to every weight of it.
TEST(Fingerprint, KnowsEveryWeight) {
  const Engine engine(testing::golden_models().front().string(), {.tokenizer = false});
  const std::string plain = model_fingerprint(engine);
  const int n = threads();
  set_threads(1);
  EXPECT_EQ(model_fingerprint(engine), plain);
  set_threads(n);
  std::set<std::string> seen{plain};
  engine.internals().model->params.each([&](const Param& p) {
    if (!p.weight) return;
    auto* bytes = static_cast<char*>(p.weight.data);
    for (const int64_t at : {int64_t{0}, p.weight.bytes() / 2, p.weight.bytes() - 1}) {
      bytes[at] = static_cast<char>(bytes[at] ^ 1);
      EXPECT_TRUE(seen.insert(model_fingerprint(engine)).second) << p.name << " byte " << at;
      bytes[at] = static_cast<char>(bytes[at] ^ 1);
    }
  });
  EXPECT_GT(seen.size(), 30u);
  EXPECT_EQ(model_fingerprint(engine), plain);
}

}  // namespace
}  // namespace qwerky
