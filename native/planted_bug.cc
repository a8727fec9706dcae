// SPDX-License-Identifier: Apache-2.0
// Each does its harm only where XDPILOT_PLANTED_BUG names it.
#include <limits.h>
#include <stdlib.h>

#include <string>

#include "exports.h"

namespace xdpilot {

namespace {

volatile int sink;
volatile size_t bytes = 16;  // volatile: the compiler must not see these bugs

bool Wanted(const char *bug) {
	const char *wanted = getenv("XDPILOT_PLANTED_BUG");
	return wanted && std::string(wanted) == bug;
}

void HeapOverflow(const Napi::CallbackInfo &) {
	volatile char *memory = new char[bytes];
	if (Wanted("heap-overflow")) memory[bytes] = 1;
	delete[] memory;
}

void UseAfterFree(const Napi::CallbackInfo &) {
	volatile char *memory = new char[bytes];
	memory[0] = 1;
	delete[] memory;
	if (Wanted("use-after-free")) sink = memory[0];
}

void SignedOverflow(const Napi::CallbackInfo &) {
	volatile int most = INT_MAX;
	if (Wanted("signed-overflow")) sink = most + 1;
}

void Leak(const Napi::CallbackInfo &) {
	char *memory = new char[10 * bytes];
	sink = memory[0] = 0;
	if (!Wanted("leak")) delete[] memory;
}

}  // namespace

void DefinePlantedBugs(Napi::Env env, Napi::Object exports) {
	Napi::Object bugs = Napi::Object::New(env);
	bugs.Set("heap-overflow", Napi::Function::New(env, HeapOverflow));
	bugs.Set("use-after-free", Napi::Function::New(env, UseAfterFree));
	bugs.Set("signed-overflow", Napi::Function::New(env, SignedOverflow));
	bugs.Set("leak", Napi::Function::New(env, Leak));
	exports.Set("plantedBugs", bugs);
}

}  // namespace xdpilot
