// SPDX-License-Identifier: MIT
// The report as a file: markup that closes, nothing from outside, hostile names as text, no empty sections; and the
// figures of agreement that it shows.
#include "eval/report.h"

#include <gtest/gtest.h>

#include "markup.h"

namespace qwerky {
namespace {

using testing::occurrences;
using testing::well_formed;

const std::string kHostile = "</title><script src=\"http://evil/x.js\">'&\x01\xff";

bool is_page(const std::string& html) {
  const size_t style = html.find("<style>"), end = html.find("</style>");
  return html.starts_with("<!DOCTYPE html>") && style < end && end != std::string::npos &&
         well_formed(html.substr(0, style + 7) + html.substr(end), {"meta"});
}

bool has(const std::string& html, const std::string& part) { return html.find(part) != std::string::npos; }

PairedScore score(const std::string& name) {
  return {.name = name,
          .metric = "acc",
          .filter = "none",
          .shots = 0,
          .documents = 100,
          .teacher = {0.6, 0.05},
          .student = {0.55, 0.05},
          .chance = 0.25,
          .change = {-0.05, 0.02},
          .interval = Interval{-0.0892, -0.0108},
          .relative = Estimate{0.857, 0.06}};
}

/// Everything that a report may hold, with `name` wherever a text comes from outside.
Report full(const std::string& name) {
  Report r;
  r.teacher = "teacher " + name, r.student = "student " + name;
  r.date = "2025-01-31 12:00 UTC", r.version = "qwerky 1";
  r.scores = {score("arc_easy" + name), score("mmlu")};
  r.scores[1].depth = 1;
  r.scores[1].relative.reset();
  PairedScore perplexity = score("lambada_openai");
  perplexity.metric = "perplexity", perplexity.ratio = true;
  perplexity.chance.reset(), perplexity.relative.reset();
  perplexity.change = {0.1, 0.01}, perplexity.interval = Interval{1.08, 1.13};
  r.scores.push_back(perplexity);
  r.score_notes = "arc_easy: 100 of 2376 rows " + name + "\n";
  Comparison c;
  c.teacher = {128, 2.0, std::vector<double>(64, 2.0)};
  c.student = {128, 2.1, std::vector<double>(64, 2.1)};
  c.kl = 0.05, c.top1 = 0.9, c.kl_by_position.assign(64, 0.05);
  c.alignment = {0.1, 0.2}, c.unexplained = {0.01, 0.02};
  r.text = c;
  r.mixers = {"rwkv7", name};
  r.agreement = {{"arc_easy" + name, 16, {16, 3, 0, 16}}, {"text", 16, {16, 5}}};
  Recall recall;
  recall.cells = {
      {.task = "niah" + name, .length = 1024, .depth = 0, .samples = 4, .wanted = 4, .generated = 0.25, .ranked = 0.5},
      {.task = "niah" + name, .length = 1024, .depth = 50, .samples = 4, .wanted = 4, .generated = 1, .ranked = 0.75},
      {.task = "niah" + name, .length = 4096, .depth = 50, .samples = 4, .wanted = 4, .generated = 0, .ranked = 1},
      {.task = "niah" + name, .length = 4096, .depth = 100, .samples = 0, .wanted = 4}};
  recall.by_length = {{.length = 1024, .tokens = 64, .nll = 2, .perplexity = 7.4}};
  r.recall = {recall, recall};
  r.costs = {{"a", "softmax" + name, "avx2", 512, {{128, 1e-3, 1 << 20, false}, {1024, 2e-3, 1 << 23, true}}},
             {"b",
              "rwkv7",
              "avx2",
              0,
              {{128, 1e-3, 1 << 18, false}, {1024, 1e-3, 1 << 18, false}, {8192, 1e-3, 1 << 18, false}}}};
  r.models = {{"path", name, name}};
  r.data = {{"arc_easy", "/data/" + name, "abc", "100 of 2376 documents"}};
  r.settings = {{"seed", name}};
  r.machine = {{"processor", name}};
  r.command = "qwerky compare " + name;
  return r;
}

TEST(EvalReport, ClosesWhatItOpens) {
  EXPECT_TRUE(is_page(report_html(full("plain"))));
  EXPECT_TRUE(is_page(report_html(full(kHostile))));
  EXPECT_TRUE(is_page(report_html({})));
  EXPECT_FALSE(is_page(report_html(full("plain")) + "</p>"));  // the check itself can fail
}

TEST(EvalReport, TakesNothingFromOutside) {
  const std::string html = report_html(full("plain"));
  for (const char* outside :
       {"http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe", "<img", "<object"})
    EXPECT_FALSE(has(html, outside)) << outside;
}

TEST(EvalReport, HostileNamesAreText) {
  const std::string html = report_html(full(kHostile));
  EXPECT_EQ(occurrences(html, "<script"), 0u);
  EXPECT_EQ(occurrences(html, "</title>"), 1u);
  EXPECT_EQ(occurrences(html, "<title>"), 1u);
  EXPECT_TRUE(has(html, "&lt;/title&gt;&lt;script src=&quot;http:"));
  EXPECT_EQ(html.find('\x01'), std::string::npos);
  EXPECT_EQ(html.find('\xff'), std::string::npos);
  EXPECT_TRUE(has(html, "\uFFFD"));
}

TEST(EvalReport, LeavesOutWhatIsNotThere) {
  const std::string everything = report_html(full("x")), nothing = report_html({});
  EXPECT_EQ(occurrences(everything, "<section>"), 7u);
  EXPECT_EQ(occurrences(nothing, "<section>"), 0u);
  EXPECT_EQ(occurrences(nothing, "<table"), 0u);
  EXPECT_EQ(occurrences(nothing, "<svg"), 0u);
  const auto sections = [](auto&& without) {
    Report r = full("x");
    without(r);
    return occurrences(report_html(r), "<section>");
  };
  EXPECT_EQ(sections([](Report& r) { r.scores.clear(); }), 6u);
  EXPECT_EQ(sections([](Report& r) { r.text.reset(); }), 5u);  // and the layers
  EXPECT_EQ(sections([](Report& r) { r.text->alignment.clear(); }), 6u);
  EXPECT_EQ(sections([](Report& r) { r.agreement.clear(); }), 6u);
  EXPECT_EQ(sections([](Report& r) { r.recall.clear(); }), 6u);
  EXPECT_EQ(sections([](Report& r) { r.costs.clear(); }), 6u);
}

TEST(EvalReport, NoFigureIsEmptyOrNotANumber) {
  const std::string html = report_html(full("x"));
  EXPECT_FALSE(has(html, "nan"));
  EXPECT_FALSE(has(html, "<figure></figure>"));
  EXPECT_FALSE(has(html, "<div class=\"figures\">\n</div>"));
  Report lone;  // bits per byte alone: a table without figures
  lone.scores = {score("wikitext")};
  lone.scores[0].chance.reset();
  EXPECT_FALSE(has(report_html(lone), "figures\""));
}

TEST(EvalReport, SaysWhatWasMeasured) {
  const std::string html = report_html(full("x"));
  EXPECT_TRUE(has(html, "−0.0500 [−0.0892, −0.0108]"));
  EXPECT_TRUE(has(html, "× 1.1052 [1.0800, 1.1300]"));
  EXPECT_TRUE(has(html, "arc_easy: 100 of 2376 rows"));
  EXPECT_TRUE(has(html, "does not fit"));  // the teacher at 8192
  EXPECT_TRUE(has(html, "beyond the 512 positions"));
  EXPECT_TRUE(has(html, "<pre>qwerky compare x</pre>"));
  EXPECT_TRUE(has(html, "prefers-color-scheme: dark"));
  EXPECT_TRUE(has(html, "@media print"));
}

TEST(EvalReport, SaysThatItIsPartial) {
  EXPECT_FALSE(has(report_html(full("x")), "class=\"partial\""));
  Report r;  // stopped before anything was compared
  r.partial = "Partial: stopped at " + kHostile;
  r.finished = {{"arc_easy, teacher", "64 of 2376 documents"}};
  const std::string html = report_html(r);
  EXPECT_TRUE(is_page(html));
  EXPECT_TRUE(has(html, "<p class=\"partial\">Partial: stopped at &lt;/title&gt;"));
  EXPECT_TRUE(has(html, "64 of 2376 documents"));
}

TEST(EvalReport, DrawsNeedlesByLengthAndDepth) {
  Report r;
  r.recall = full("").recall;
  const std::string html = report_html(r);
  // A map for each of two values and two models: three cells with a number, one without, and a line of perplexities.
  EXPECT_EQ(occurrences(html, "class=\"cell\""), 2u * 2 * 3);
  EXPECT_EQ(occurrences(html, "<svg"), 2u * 2 + 1);
  EXPECT_TRUE(has(html, "niah, likeliest: student"));
  r.recall[0] = {};
  EXPECT_EQ(occurrences(report_html(r), "class=\"cell\""), 2u * 3);
  r.recall[1] = {};
  EXPECT_EQ(occurrences(report_html(r), "<section>"), 0u);
}

TEST(EvalAgreement, CountsIdsBeforeTheFirstDifference) {
  const std::vector<Ids> teacher = {{1, 2, 3, 4}, {1, 2, 3, 4}, {5}, {5, 6}, {1, 2, 3, 4}},
                         student = {{1, 2, 3, 4}, {1, 9, 3, 4}, {5}, {5}, {0, 2, 3, 4}};
  const Agreement a = agreement("text", 4, teacher, student);
  EXPECT_EQ(a.agreed, (std::vector<int64_t>{4, 1, 4, 1, 0}));  // two that end alike agree on all
  EXPECT_DOUBLE_EQ(a.identical(), 2.0 / 5);
  EXPECT_DOUBLE_EQ(a.share(1), 4.0 / 5);
  EXPECT_DOUBLE_EQ(a.share(0), 1);
  EXPECT_DOUBLE_EQ(a.median_agreed(), 1);
  const std::vector<Ids> one = {{1}};
  const std::vector<Agreement> two = {a, agreement("task", 4, one, one)};
  EXPECT_EQ(pooled(two).agreed.size(), 6u);
}

TEST(EvalAgreement, PromptsAreSpreadOverTheWindows) {
  std::vector<int32_t> ids(101);
  for (int i = 0; i <= 100; ++i) ids[static_cast<size_t>(i)] = i;
  const Windows windows(ids, 10);  // ten windows
  const GreedyPrompts p = window_prompts(windows, 2);
  EXPECT_EQ(p.ids, (std::vector<Ids>{{0, 1, 2, 3, 4}, {50, 51, 52, 53, 54}}));
  EXPECT_EQ(window_prompts(windows, 99).ids.size(), 10u);
}

}  // namespace
}  // namespace qwerky
