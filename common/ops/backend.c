#include "common/ops/backend.h"

#ifdef KF_CUDA
#include "common/ops/cuda/device.h"

extern const kf_ops kf_cuda_ops;

const kf_ops *kf_ops_cuda(void)
{
	return &kf_cuda_ops;
}

static bool device_present(void)
{
	return kf_cuda_device_present();
}
#else
const kf_ops *kf_ops_cuda(void)
{
	return NULL;
}

static bool device_present(void)
{
	return false;
}
#endif

kf_status kf_backend(int choice, const kf_ops **out, int *compute, kf_err *err)
{
	enum { AUTO, CPU, CUDA };

	*out = &kf_ops_cpu;
	if (choice == CUDA && !kf_ops_cuda())
		return kf_fail(err, KF_EUNSUPPORTED, "--backend cuda: this program was built without CUDA. Build it with make CUDA=1, "
			"or use --backend cpu.");
	if (choice == CUDA || (choice == AUTO && kf_ops_cuda() && device_present())) *out = kf_ops_cuda();
	if (*out != &kf_ops_cpu && *compute == KF_COMPUTE_AUTO) *compute = KF_COMPUTE_BF16;
	if (*out != &kf_ops_cpu && *compute == KF_COMPUTE_INT8)
		return kf_fail(err, KF_EUNSUPPORTED, "--compute int8 is for the CPU; on CUDA use bf16, or give --backend cpu");
	return KF_OK;
}
