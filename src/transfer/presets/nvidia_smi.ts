import type { Preset } from "./preset.ts";

/** Log of `nvidia-smi --query-gpu=… --format=csv`. Its times have no zone. */
export const NVIDIA_SMI: Preset = {
  name: "nvidia-smi",
  title: "Log of nvidia-smi (`--query-gpu=timestamp,… --format=csv`)",
  dataset: "device_metrics",
  documentation: ["https://docs.nvidia.com/deploy/nvidia-smi/index.html"],
  signs: ["utilization.gpu [%]", "memory.used [MiB]", "power.draw [W]"].map((name) => ["timestamp", name]),
  fields: {
    timestamp: "timestamp",
    deviceId: "known(uuid),known(gpu_uuid),known(pci.bus_id),known(gpu_bus_id)",
    deviceIndex: "known(index)",
    vendor: "=nvidia",
    model: "known(name),known(gpu_name)",
    utilization: "measure(utilization.gpu [%]),measure(utilization.gpu)",
    memoryUtilization: "measure(utilization.memory [%]),measure(utilization.memory)",
    memoryUsed: "measure(memory.used [MiB]),measure(memory.used)",
    memoryTotal: "measure(memory.total [MiB]),measure(memory.total)",
    temperature: "measure(temperature.gpu)",
    memoryTemperature: "measure(temperature.memory)",
    powerConsumption: "measure(power.draw [W]),measure(power.draw.average [W]),measure(power.draw)",
    clockSm: "measure(clocks.current.sm [MHz]),measure(clocks.sm)",
    clockMemory: "measure(clocks.current.memory [MHz]),measure(clocks.mem)",
    // The two digits of power cap, heat and brakes: idle (1) and a clock that was set (2, 10) slow nothing down.
    throttled: {
      by: "clocks_event_reasons.active,clocks_throttle_reasons.active",
      cases: { "0x*00|0x*01|0x*02|0x*03|0x*10|0x*11|0x*12|0x*13": "=false", "0x*": "=true" },
    },
  },
  dateFormats: ["YYYY/MM/DD"],
  scale: { memoryUsed: "1048576", memoryTotal: "1048576" },
};
