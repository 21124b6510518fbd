// The most that the 8-bit dot-product instructions of an ISA can do on this machine, measured.
#pragma once

#include "kernels/isa.h"

// GOPS, two operations a multiply-add; 0 for the reference.
double measured_peak(nibble::kernels::Isa isa);
