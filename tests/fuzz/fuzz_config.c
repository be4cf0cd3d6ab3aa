/* config.json, and the config that is written back of what was understood. */
#include "common/model/arch.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *config = json_loadb((const char *)data, size, 0, NULL), *back;
	kf_arch arch;
	kf_err err;
	kf_status rc;

	err.text[0] = 0;
	if (!config) return 0;
	fuzz_answer(rc = kf_arch_from_config(config, &arch, &err), &err);
	json_decref(config);
	if (rc != KF_OK) return 0;
	fuzz_answer(rc = kf_arch_check(&arch, "fuzz", &err), &err);
	if (rc != KF_OK || !(back = kf_arch_to_config(&arch, "float32"))) return 0;
	/* what is written is understood */
	if ((rc = kf_arch_from_config(back, &arch, &err)) != KF_OK) {
		fuzz_answer(rc, &err);
		__builtin_trap();
	}
	json_decref(back);
	return 0;
}
