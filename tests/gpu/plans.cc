/* Whether cuDNN has engines for our graphs of attention: for a device that need not be there, told by its properties (those of an
 * H100). Needs cuDNN 9.8 or newer, the toolkit's stub of libcuda, and no GPU: make CUDA=1 gpu-plans. Plans are not built: their kernels
 * would have to be loaded. */
#include "common/ops/cuda/fused_attention.cc"

#include <cstdio>
#include <string>

static const char H100[] = "{\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], \"regsPerBlock\": 65536, "
	"\"multiProcessorCount\": 132, \"smClockRateKHz\": 1980000, \"memClockRateKHz\": 2619000, \"l2CacheSize\": 52428800, \"warpSize\": 32, "
	"\"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": 232448, \"reservedSharedMemoryPerBlock\": 1024, "
	"\"maxRegistersPerSM\": 65536, \"pciDeviceId\": 0, \"maxCtasPerSM\": 32, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, "
	"\"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"deviceVer\": 900, \"driverVer\": 13000, \"cudaDeviceId\": 0, "
	"\"totalGlobalMem\": 85000000000, \"deviceName\": \"NVIDIA H100 80GB HBM3\"}";

/* The frontend asks the runtime what device there is. (Ours, being in the program, come before those of the shared library.) */
extern "C" cudaError_t cudaGetDevice(int *device)
{
	*device = 0;
	return cudaSuccess;
}

extern "C" cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int)
{
	*value = what == cudaDevAttrComputeCapabilityMajor ? 9 : what == cudaDevAttrMultiProcessorCount ? 132 : 0;
	return cudaSuccess;
}

struct plan_case { const char *name; int H, G, D, window; };

/* "" where there is one. */
static std::string engine(const shape &s, bool deterministic)
{
	auto props = std::make_shared<fe::DeviceProperties>();

	try {
		auto st = props->deserialize(std::vector<uint8_t>(H100, H100 + sizeof H100 - 1));

		if (st.is_bad()) return st.get_message();
		auto graph = describe(s, deterministic);

		graph->set_device_properties(props).set_sm_version(90);
		if ((st = graph->validate()).is_bad()) return "not valid: " + st.get_message();
		if ((st = graph->build_operation_graph()).is_bad()) return "no graph: " + st.get_message();
		if ((st = graph->create_execution_plans({ fe::HeurMode_t::A })).is_bad()) return "no engine: " + st.get_message();
		if ((st = graph->check_support()).is_bad()) return "no support: " + st.get_message();
	} catch (const std::exception &x) {
		return std::string("threw: ") + x.what();
	}
	return "";
}

int main()
{
	static const plan_case CASES[] = {
		{ "32 heads of 128 (7B)", 32, 32, 128, 0 }, { "32 heads of 64 in 8 groups (1B)", 32, 8, 64, 0 },
		{ "9 heads of 64 in 3 groups (SmolLM2)", 9, 3, 64, 0 }, { "32 heads of 128 in 8 groups, window 4096 (Mistral)", 32, 8, 128, 4096 },
		{ "4 heads of 256 with one key, window 512 (Gemma 3)", 4, 1, 256, 512 },
	};
	int failed = 0;

	for (const auto &c : CASES)
		for (int way = 0; way < 3; way++) {
			const bool backward = way == 2;
			const shape s = { backward, way > 0, c.H, c.G, c.D, c.window, 0.1f, 8, 8192, backward ? 16384 : 0 };
			std::string why = engine(s, true);
			const char *order = ", in a fixed order";

			if (!why.empty() && backward) {
				std::printf("# %s: in a fixed order: %s\n", c.name, why.c_str());
				why = engine(s, false);
				order = "";
			}
			std::printf("%s %s, %s%s: %s\n", why.empty() ? "ok" : "not ok", c.name, way == 0 ? "forward" : way == 1 ? "forward with statistics" :
				"backward", backward ? order : "", why.empty() ? "supported" : why.c_str());
			failed += !why.empty();
		}
	return failed != 0;
}
