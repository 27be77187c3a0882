"""What is served: versions and aliases, the store, the quantized base, the multi-LoRA engine, leases."""
