// SPDX-License-Identifier: Apache-2.0
// Bugs on purpose, only in the sanitizer build (scripts/sanitize.mjs): they prove that it looks.
#pragma once
#include <napi.h>

namespace xdpilot {

void DefinePlantedBugs(Napi::Env env, Napi::Object exports);

}  // namespace xdpilot
