// SPDX-License-Identifier: Apache-2.0
// The groups of plain functions that the addon exports.
#pragma once
#include <napi.h>

namespace xdpilot {

void DefineRing(Napi::Env env, Napi::Object exports);
void DefineFlowScan(Napi::Env env, Napi::Object exports);
void DefineHost(Napi::Env env, Napi::Object exports);
/** Only in the sanitizer build (scripts/sanitize.mjs): bugs on purpose, which prove that it looks. */
void DefinePlantedBugs(Napi::Env env, Napi::Object exports);

}  // namespace xdpilot
