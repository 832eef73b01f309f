"""The devices that `--mode=plan` knows, by their vendors' data sheets."""

from typing import NamedTuple


class Device(NamedTuple):
    """One accelerator.

    Attributes:
      memory: bytes.
      bandwidth: bytes a second of its memory.
      flops: floating-point operations a second of dense matrix products with float32 inputs (TF32 on a GPU).
      link: bytes a second that it sends to other devices of its host.
      network: bytes a second that it sends to devices of other hosts.
      host: bytes a second that it receives from its host's memory.
      per_host: number of devices of a host.
    """

    memory: float
    bandwidth: float
    flops: float
    link: float
    network: float
    host: float
    per_host: int


DEVICES = {  # vendors' data sheets; network: one 200 or 400 Gbit/s port a device; host: PCIe 4 or 5 at four fifths
    "A100-80": Device(80e9, 2.04e12, 156e12, 300e9, 25e9, 25e9, 8),
    "H100": Device(80e9, 3.35e12, 495e12, 450e9, 50e9, 50e9, 8),
    "H200": Device(141e9, 4.8e12, 495e12, 450e9, 50e9, 50e9, 8),
    "TPU-v5e": Device(16e9, 0.82e12, 98e12, 200e9, 200e9, 12e9, 256),
}
