// SPDX-License-Identifier: Apache-2.0
// The export table; src/native/addon.d.ts is its description.
#include <napi.h>

#include "exports.h"
#include "link.h"
#include "map.h"
#include "object.h"
#include "program.h"

namespace xdpilot {

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
	CaptureLibbpfLog();
	auto *classes = new Classes;
	env.SetInstanceData(classes);
	const auto define = [&](const char *name, Napi::Function constructor, Napi::FunctionReference *keep) {
		exports.Set(name, constructor);
		*keep = Napi::Persistent(constructor);
	};
	define("BpfMap", BpfMap::Define(env), &classes->map);
	define("BpfProgram", BpfProgram::Define(env), &classes->program);
	define("BpfLink", BpfLink::Define(env), &classes->link);
	exports.Set("BpfObject", BpfObject::Define(env));
	DefineRing(env, exports);
	DefineFlowScan(env, exports);
	DefineHost(env, exports);
#ifdef XDPILOT_PLANTED_BUGS
	DefinePlantedBugs(env, exports);
#endif
	return exports;
}

}  // namespace

NODE_API_MODULE(xdpilot, Init)

}  // namespace xdpilot
