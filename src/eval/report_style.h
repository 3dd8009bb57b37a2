// SPDX-License-Identifier: MIT
// The looks of the report: light, dark and printed, from a phone's width up.
#pragma once

namespace qwerky {

constexpr const char* kReportStyle = R"css(
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1c2126; --muted: #59626b; --rule: #d5d8db; --tint: #f3f3ef;
  --s0: #1f5f99; --s1: #b9500b; --s2: #0a7f5c; --s3: #a03b7e;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --ink: #e4e6e8; --muted: #9ba5ae; --rule: #353b41; --tint: #1e2226;
    --s0: #7fb5ea; --s1: #f0985c; --s2: #4fc79d; --s3: #e08fc0;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 17px/1.55 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif }
main { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1, h2, h3 { line-height: 1.2; font-weight: 600; overflow-wrap: anywhere }
h1 { font-size: 2rem; margin: 0 0 .4rem }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: .7rem; border-top: 1px solid var(--rule) }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
p { max-width: 42rem; margin: .5rem 0 }
.by, .note, figcaption { color: var(--muted); font-size: .88rem }
.by { overflow-wrap: anywhere }
.partial { margin: 1rem 0; padding: .6rem .8rem; border-left: 4px solid var(--s1); background: var(--tint) }
.numbers { display: grid; gap: 1px; margin: 1.8rem 0 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); border-block: 1px solid var(--rule) }
.numbers li { padding: .8rem .6rem .8rem 0 }
.numbers b { display: block; font-size: 1.55rem; font-weight: 600; line-height: 1.2 }
.numbers span { color: var(--muted); font-size: .85rem; line-height: 1.35; display: block }
.scroll { overflow-x: auto; margin: .9rem 0 }
table { border-collapse: collapse; font: .79rem/1.4 system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; border-block: 1.5px solid var(--ink) }
th { font-weight: 600; text-align: left; vertical-align: bottom; border-bottom: 1px solid var(--ink) }
th, td { padding: .3rem .5rem; white-space: nowrap }
tr > :first-child { padding-left: .1rem }
td { border-bottom: 1px solid var(--rule); vertical-align: top }
tr:last-child td { border-bottom: 0 }
.r { text-align: right }
.w { white-space: normal; overflow-wrap: anywhere; min-width: 4.5rem }
.facts { width: 100% }
.facts td:first-child { width: 30% }
.figures { display: grid; gap: 1.2rem 2rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)) }
figure { margin: 0; max-width: 30rem; break-inside: avoid }
.chart { display: block; width: 100%; height: auto }
.chart text { font: 12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--muted) }
.chart .title { font-size: 13.5px; font-weight: 600; fill: var(--ink) }
.chart .value { fill: var(--ink) }
.frame { stroke: var(--muted); fill: none }
.grid { stroke: var(--rule) }
.reference { stroke: var(--ink); stroke-dasharray: 4 3 }
.level { stroke: var(--muted); stroke-width: 2 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.cell { fill: var(--s1) }
.s0 { fill: var(--s0); stroke: var(--s0) }
.s1 { fill: var(--s1); stroke: var(--s1) }
.s2 { fill: var(--s2); stroke: var(--s2) }
.s3 { fill: var(--s3); stroke: var(--s3) }
pre, code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .8rem }
pre { background: var(--tint); padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5 }
@media (max-width: 34rem) {
  body { font-size: 16px }
  main { padding: 1.5rem 1rem 3rem }
  h1 { font-size: 1.55rem }
  h2 { font-size: 1.2rem; margin-top: 2.2rem }
  .numbers { grid-template-columns: 1fr 1fr }
  .scroll table:not(.facts) tr > :first-child { position: sticky; left: 0; background: var(--paper) }
  .numbers b { font-size: 1.3rem }
}
@media print {
  @page { margin: 16mm 14mm }
  :root { --paper: #fff }
  body { font-size: 10pt }
  main { max-width: none; padding: 0 }
  h2, h3 { break-after: avoid }
  tr, pre { break-inside: avoid }
  thead { display: table-header-group }
  table { font-size: 7.6pt }
  th, td { padding: .2rem .45rem }
  .scroll { overflow: visible }
  .figures { grid-template-columns: 1fr 1fr; gap: 6mm }
}
)css";

}  // namespace qwerky
