// The optimal clips of ACIQ (Banner et al. 2018).
#pragma once

namespace nibble {

// alpha / b for a Laplace distribution of scale b on 2^bits levels: the t > 0 with exp(-t) = t / (3 4^bits), which minimises
// 2 b^2 exp(-alpha / b) + alpha^2 / (3 4^bits).
double aciq_laplace_clip(int bits);

// alpha / sigma for a normal distribution: the t > 0 with 2 (phi(t) - t (1 - Phi(t))) = t / (3 4^bits), which minimises
// 2 ((alpha^2 + sigma^2) (1 - Phi(t)) - alpha sigma phi(t)) + alpha^2 / (3 4^bits), t = alpha / sigma; phi and Phi are the normal density
// and distribution.
double aciq_gauss_clip(int bits);

}  // namespace nibble
