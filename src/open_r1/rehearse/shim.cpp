// The hooks of a CUDA that is built in and has no device. torch's autograd asks them before it runs a backward pass
// over tensors on `cuda`, fake ones too; the hooks of a machine without a device throw.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>

#include <cstring>

namespace {

struct NoDevice : at::CUDAHooksInterface {
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return false; }
  void init() const override {}
  bool hasPrimaryContext(at::DeviceIndex) const override { return false; }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  bool isPinnedPtr(const void*) const override { return false; }
};

// An object's class is what its first word points to.
void* hooks_in_use() { return const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks()); }

void* original = nullptr;

}  // namespace

extern "C" void install() {
  static NoDevice hooks;
  if (original == nullptr) std::memcpy(&original, hooks_in_use(), sizeof(void*));
  std::memcpy(hooks_in_use(), static_cast<void*>(&hooks), sizeof(void*));
}

extern "C" void restore() {
  if (original != nullptr) std::memcpy(hooks_in_use(), &original, sizeof(void*));
}
