// SPDX-License-Identifier: MIT
// Whole conversions of the bundled model in a few steps: what is said when, what is written when, where one can stop.
#include "distill/convert.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "data.h"
#include "expect_error.h"

namespace qwerky {
namespace {

using testing::error_of;
using testing::has;

struct Conversion {
  std::atomic<bool> stop = false;
  std::string stop_at = "nothing says this";  // the beginning of the line at which the user stops the run
  std::vector<std::string> lines;
  ConvertOptions options;

  explicit Conversion(const Path& out) {
    options.teacher = std::string(QWERKY_SOURCE_DIR) + "/models/teacher";
    options.sample_tokens = 700;
    options.run.out = out.string();
    options.run.recipe = "demo";
    for (const char* stage : {"stages.0.", "stages.1."})
      for (const char* value : {"tokens=256", "context=32"}) options.run.set.push_back(stage + std::string(value));
    options.run.set.emplace_back("calibration_tokens=512");
  }
  Outcome operator()() {
    stop = false;
    lines.clear();
    const Say say = [&](const std::string& line, bool) {
      lines.push_back(line);
      if (line.starts_with(stop_at)) stop = true;
    };
    return convert(options, say, stop);
  }
  /// The number of the first line that begins so; -1 if none does.
  int64_t line(const std::string& begin) const {
    const auto at = std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.starts_with(begin); });
    return at == lines.end() ? -1 : at - lines.begin();
  }
};

TEST(Convert, ADryRunPlansAndWritesNothing) {
  const Path dir = testing::scratch_dir("convert-dry");
  Conversion run(dir / "out");
  run.options.run.dry_run = true;
  ASSERT_EQ(run(), Outcome::finished);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  EXPECT_GE(run.line("plan: memory"), 0);
  EXPECT_GE(run.line("plan: disk"), 0);
  EXPECT_EQ(run.line("sampling"), -1);
  run.options.run.data = {(dir / "missing.txt").string()};
  EXPECT_PRED2(has, error_of([&] { run(); }), "missing.txt: no such file");
  EXPECT_TRUE(run.lines.empty()) << "absent data are known before anything is measured";
}

TEST(Convert, ThePlanComesBeforeTheData) {
  const Path dir = testing::scratch_dir("convert-stop-early");
  Conversion run(dir / "out");
  run.stop_at = "plan: stage 1";
  ASSERT_EQ(run(), Outcome::interrupted);
  EXPECT_GE(run.line("interrupted before training began"), 0);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  run.stop_at = "sampling";
  ASSERT_EQ(run(), Outcome::interrupted);
  EXPECT_LT(run.line("plan: disk"), run.line("no --data given"));
  EXPECT_LT(run.line("no --data given"), run.line("sampling"));
  EXPECT_GE(run.line("interrupted before training began"), 0);
}

TEST(Convert, StoppedWhileMeasuringItOnlyMeasuresAgain) {
  const Path out = testing::scratch_dir("convert-measure");
  Conversion run(out);
  run.stop_at = "measuring the result";
  ASSERT_EQ(run(), Outcome::interrupted);
  EXPECT_PRED2(has, run.lines.back(), "interrupted: training is finished and saved; repeat the same command");
  EXPECT_TRUE(is_file(out / "training" / "checkpoint.safetensors"));
  EXPECT_FALSE(is_there(out / "conversion.json"));
  const std::string model = read_file(out / "model.safetensors"), log = read_file(out / "training" / "log.jsonl");

  run.stop_at = "nothing says this";
  ASSERT_EQ(run(), Outcome::finished);
  EXPECT_EQ(run.line("plan:"), -1);
  EXPECT_EQ(run.line("stage"), -1);
  EXPECT_GE(run.line("training is finished"), 0);
  EXPECT_GE(run.line("measuring the result"), 0);
  EXPECT_TRUE(is_file(out / "conversion.json"));
  EXPECT_EQ(read_file(out / "model.safetensors"), model);
  EXPECT_EQ(read_file(out / "training" / "log.jsonl"), log);

  run.options.run.set.emplace_back("stages.1.lr=0.5");
  EXPECT_PRED2(has, error_of([&] { run(); }), "stages.1.lr: was 0.0003, now 0.5");
}

}  // namespace
}  // namespace qwerky
