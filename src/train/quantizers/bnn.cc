// Binarized networks: BinaryConnect's weights, and activations of -1 and +1. The gradient passes a sign where |x| <= 1.
#include <torch/torch.h>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class SignActivation : public ActivationQuantizer {
 public:
  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override { return step.quantize ? sign_ste(x, 1) : x; }
  ActivationGrid grid() const override { return {.uniform = {}, .signs = {{.threshold = 0, .scale = 1}}}; }
};

}  // namespace

const QuantizerRow kBnn = {.name = "bnn",
                           .summary = "weights and activations of one bit: -1, 1",
                           .source = "Courbariaux et al. 2016, Binarized Neural Networks, eq. 1, 2, 4",
                           .options = "stochastic=0,stretch=0.5,glorot=1",
                           .weight_bits_min = 1,
                           .weight_bits_max = 1,
                           .activation_bits_min = 1,
                           .activation_bits_max = 1,
                           .takes_signed = true,
                           .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
                             return kBinaryConnect.make_weight(site, options);
                           },
                           .make_activation = [](const ActivationSite&, const MethodOptions&) -> std::unique_ptr<ActivationQuantizer> {
                             return std::make_unique<SignActivation>();
                           }};

}  // namespace nibble::train
