//! Sensors, power, memory errors and the machine itself, as node_exporter names them.

use super::Metric;
use super::counter;
use super::gauge;
use crate::metric::Tier;
use crate::metric::Unit;

pub(super) const METRICS: &[Metric] = &[
    gauge("node_cooling_device_cur_state", Unit::None, "How far a device is throttled.")
        .labels(COOLING)
        .tier(Tier::Window),
    gauge("node_cooling_device_max_state", Unit::None, "How far a device can be throttled.")
        .labels(COOLING)
        .tier(Tier::Window),
    gauge("node_dmi_info", Unit::None, "What machine this is.").labels(DMI).tier(Tier::Window),
    counter(
        "node_edac_channel_correctable_errors_total",
        Unit::None,
        "Memory errors that were corrected, of a channel.",
    )
    .labels(CHANNEL)
    .tier(Tier::Window),
    counter(
        "node_edac_channel_uncorrectable_errors_total",
        Unit::None,
        "Memory errors that could not be corrected, of a channel.",
    )
    .labels(CHANNEL)
    .tier(Tier::Window),
    counter("node_edac_correctable_errors_total", Unit::None, "Memory errors that were corrected, of a controller.")
        .labels(CONTROLLER)
        .tier(Tier::Window),
    counter("node_edac_csrow_correctable_errors_total", Unit::None, "Memory errors that were corrected, of a row.")
        .labels(ROW)
        .tier(Tier::Window),
    counter(
        "node_edac_csrow_uncorrectable_errors_total",
        Unit::None,
        "Memory errors that could not be corrected, of a row.",
    )
    .labels(ROW)
    .tier(Tier::Window),
    counter(
        "node_edac_uncorrectable_errors_total",
        Unit::None,
        "Memory errors that could not be corrected, of a controller.",
    )
    .labels(CONTROLLER)
    .tier(Tier::Window),
    gauge("node_hwmon_beep_enabled", Unit::None, "Whether the chip beeps.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_chip_names", Unit::None, "What the driver calls a sensor chip.").labels(CHIP).tier(Tier::Window),
    gauge("node_hwmon_curr_alarm", Unit::None, "Whether a limit of the current was passed.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_curr_amps", Unit::None, "Current, in amperes.").labels(SENSOR).decimals(3).tier(Tier::Window),
    gauge("node_hwmon_curr_average_amps", Unit::None, "Current, averaged by the chip, in amperes.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_curr_crit_amps", Unit::None, "Current that is critically high, in amperes.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_curr_lcrit_amps", Unit::None, "Current that is critically low, in amperes.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_curr_max_amps", Unit::None, "Current above which it is too high, in amperes.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_curr_min_amps", Unit::None, "Current below which it is too low, in amperes.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    counter("node_hwmon_energy_joule_total", Unit::None, "Energy used, in joules.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_fan_alarm", Unit::None, "Whether a limit of the speed was passed.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_fan_beep_enabled", Unit::None, "Whether the chip beeps at a slow fan.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_fan_div", Unit::None, "Divisor of the speed of a fan.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_fan_fault", Unit::None, "Whether a fan is broken.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_fan_max_rpm", Unit::None, "Speed above which a fan is too fast.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_fan_min_rpm", Unit::None, "Speed below which a fan is too slow.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_fan_pulses", Unit::None, "Pulses of a fan in a revolution.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_fan_rpm", Unit::None, "Speed of a fan, in revolutions a minute.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_fan_target_rpm", Unit::None, "Speed that a fan is to have.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_freq_freq_mhz", Unit::None, "Clock of a part of the graphics processor, in MHz.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_humidity", Unit::Ratio, "Relative humidity, of one.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_in_alarm", Unit::None, "Whether a limit of the voltage was passed.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_in_average_volts", Unit::None, "Voltage, averaged by the chip, in volts.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_in_beep_enabled", Unit::None, "Whether the chip beeps at a wrong voltage.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_in_crit_volts", Unit::None, "Voltage that is critically high, in volts.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_in_lcrit_volts", Unit::None, "Voltage that is critically low, in volts.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_in_max_volts", Unit::None, "Voltage above which it is too high, in volts.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_in_min_volts", Unit::None, "Voltage below which it is too low, in volts.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_in_volts", Unit::None, "Voltage, in volts.").labels(SENSOR).decimals(3).tier(Tier::Window),
    gauge("node_hwmon_intrusion_alarm", Unit::None, "Whether the case was opened.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_intrusion_beep_enabled", Unit::None, "Whether the chip beeps when the case is opened.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_power_alarm", Unit::None, "Whether a limit of the power was passed.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_power_average_interval_seconds", Unit::Seconds, "What the average of the power is over.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_power_average_watt", Unit::None, "Power, averaged by the chip, in watts.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_power_cap_watt", Unit::None, "Limit of the power, in watts.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_power_crit_watt", Unit::None, "Power that is critically high, in watts.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_power_lcrit_watt", Unit::None, "Power that is critically low, in watts.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_power_max_watt", Unit::None, "Power above which it is too high, in watts.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_power_min_watt", Unit::None, "Power below which it is too low, in watts.")
        .labels(SENSOR)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_hwmon_power_watt", Unit::None, "Power, in watts.").labels(SENSOR).decimals(6).tier(Tier::Window),
    gauge("node_hwmon_pwm", Unit::None, "How fast a fan is driven, of 255.").labels(SENSOR).tier(Tier::Window),
    gauge(
        "node_hwmon_pwm_enable",
        Unit::None,
        "How the speed of a fan is set: 0 full, 1 by hand, from 2 on by the chip.",
    )
    .labels(SENSOR)
    .tier(Tier::Window),
    gauge("node_hwmon_pwm_mode", Unit::None, "How a fan is driven: 0 direct current, 1 pulses.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_sensor_label", Unit::None, "What a sensor measures, in the words of the board.")
        .labels(SENSOR_LABEL)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_alarm", Unit::None, "Whether a temperature limit was passed.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_celsius", Unit::Celsius, "Temperature.").labels(SENSOR).decimals(3).tier(Tier::Window),
    gauge(
        "node_hwmon_temp_crit_alarm_celsius",
        Unit::Celsius,
        "Whether the critical temperature was reached; node_exporter gives it the unit too, a thousandth of the flag.",
    )
    .labels(SENSOR)
    .decimals(3)
    .tier(Tier::Window),
    gauge("node_hwmon_temp_crit_celsius", Unit::Celsius, "Temperature that is critical.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_crit_hyst_celsius", Unit::Celsius, "Temperature below which it is no longer critical.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_emergency_celsius", Unit::Celsius, "Temperature at which the hardware shuts down.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_fault", Unit::None, "Whether the temperature sensor is broken.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_highest_celsius", Unit::Celsius, "Highest temperature measured.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_lcrit_celsius", Unit::Celsius, "Temperature that is critically low.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_lowest_celsius", Unit::Celsius, "Lowest temperature measured.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_max_alarm_celsius", Unit::Celsius, "Whether it was too hot, a thousandth of the flag.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_max_celsius", Unit::Celsius, "Temperature above which it is too hot.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_max_hyst_celsius", Unit::Celsius, "Temperature below which it is no longer too hot.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_min_alarm_celsius", Unit::Celsius, "Whether it was too cold, a thousandth of the flag.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_min_celsius", Unit::Celsius, "Temperature below which it is too cold.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_offset_celsius", Unit::Celsius, "Correction of the measured temperature.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_temp_type", Unit::None, "Kind of temperature sensor.").labels(SENSOR).tier(Tier::Window),
    gauge("node_hwmon_update_interval_seconds", Unit::Seconds, "How often the chip measures.")
        .labels(SENSOR)
        .decimals(3)
        .tier(Tier::Window),
    gauge("node_hwmon_voltage_regulator_version", Unit::None, "Version of the voltage regulator.")
        .labels(SENSOR)
        .tier(Tier::Window),
    gauge("node_power_supply_authentic", Unit::None, "Whether it is genuine.").labels(SUPPLY).tier(Tier::Window),
    gauge("node_power_supply_calibrate", Unit::None, "Whether it is being calibrated.")
        .labels(SUPPLY)
        .tier(Tier::Window),
    gauge("node_power_supply_capacity", Unit::None, "Charge, in percent.").labels(SUPPLY).tier(Tier::Window),
    gauge("node_power_supply_capacity_alert_max", Unit::None, "Charge above which it warns, in percent.")
        .labels(SUPPLY)
        .tier(Tier::Window),
    gauge("node_power_supply_capacity_alert_min", Unit::None, "Charge below which it warns, in percent.")
        .labels(SUPPLY)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_ampere", Unit::None, "Charge, in ampere-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_control_limit", Unit::None, "Charge control limit, in millionths.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_control_limit_max", Unit::None, "Charge control limit, highest, in millionths.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_counter", Unit::None, "Charge counter, in ampere-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_empty", Unit::None, "Charge empty, in ampere-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_empty_design", Unit::None, "Charge empty by design, in ampere-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_full", Unit::None, "Charge full, in ampere-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_full_design", Unit::None, "Charge full by design, in ampere-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_charge_term_current", Unit::None, "Charge term current, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_constant_charge_current", Unit::None, "Constant charge current, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_constant_charge_current_max", Unit::None, "Constant charge current, highest, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_constant_charge_voltage", Unit::None, "Constant charge voltage, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_constant_charge_voltage_max", Unit::None, "Constant charge voltage, highest, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_current_ampere", Unit::None, "Current, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_current_boot", Unit::None, "Current boot, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_current_max", Unit::None, "Current, highest, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_cyclecount", Unit::None, "Times it was charged.").labels(SUPPLY).tier(Tier::Window),
    gauge("node_power_supply_energy_empty", Unit::None, "Energy empty, in watt-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_energy_empty_design", Unit::None, "Energy empty by design, in watt-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_energy_full", Unit::None, "Energy full, in watt-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_energy_full_design", Unit::None, "Energy full by design, in watt-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_energy_watthour", Unit::None, "Energy, in watt-hours.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_info", Unit::None, "What a power supply is.").labels(SUPPLY_INFO).tier(Tier::Window),
    gauge("node_power_supply_input_current_limit", Unit::None, "Input current limit, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_online", Unit::None, "Whether it feeds the machine.").labels(SUPPLY).tier(Tier::Window),
    gauge("node_power_supply_power_watt", Unit::None, "Power drawn, in watts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_precharge_current", Unit::None, "Precharge current, in amperes.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_present", Unit::None, "Whether it is there.").labels(SUPPLY).tier(Tier::Window),
    gauge("node_power_supply_temp_alert_max_celsius", Unit::Celsius, "Temperature alert, highest.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_alert_min_celsius", Unit::Celsius, "Temperature alert, lowest.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_ambient_celsius", Unit::Celsius, "Temperature ambient.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_ambient_max_celsius", Unit::Celsius, "Temperature ambient, highest.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_ambient_min_celsius", Unit::Celsius, "Temperature ambient, lowest.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_celsius", Unit::Celsius, "Temperature.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_max_celsius", Unit::Celsius, "Temperature, highest.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_temp_min_celsius", Unit::Celsius, "Temperature, lowest.")
        .labels(SUPPLY)
        .decimals(1)
        .tier(Tier::Window),
    gauge("node_power_supply_time_to_empty_seconds", Unit::Seconds, "How long the charge lasts.")
        .labels(SUPPLY)
        .tier(Tier::Window),
    gauge("node_power_supply_time_to_full_seconds", Unit::Seconds, "How long until it is full.")
        .labels(SUPPLY)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_boot", Unit::None, "Voltage boot, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_max", Unit::None, "Voltage, highest, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_max_design", Unit::None, "Voltage, highest by design, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_min", Unit::None, "Voltage, lowest, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_min_design", Unit::None, "Voltage, lowest by design, in volts.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_ocv", Unit::None, "Voltage without a load.")
        .labels(SUPPLY)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_power_supply_voltage_volt", Unit::None, "Voltage.").labels(SUPPLY).decimals(6).tier(Tier::Window),
    counter("node_rapl_core_joules_total", Unit::None, "Energy that its cores used, in joules; root only.")
        .labels(RAPL)
        .decimals(6)
        .tier(Tier::Window),
    counter("node_rapl_dram_joules_total", Unit::None, "Energy that memory used, in joules; root only.")
        .labels(RAPL)
        .decimals(6)
        .tier(Tier::Window),
    counter("node_rapl_package_joules_total", Unit::None, "Energy that a processor used, in joules; root only.")
        .labels(RAPL)
        .decimals(6)
        .tier(Tier::Window),
    counter("node_rapl_psys_joules_total", Unit::None, "Energy that the whole system used, in joules; root only.")
        .labels(RAPL)
        .decimals(6)
        .tier(Tier::Window),
    counter("node_rapl_uncore_joules_total", Unit::None, "Energy that its graphics used, in joules; root only.")
        .labels(RAPL)
        .decimals(6)
        .tier(Tier::Window),
    gauge("node_thermal_zone_temp", Unit::Celsius, "Temperature of a zone.")
        .labels(ZONE)
        .decimals(3)
        .tier(Tier::Window),
];

const CHANNEL: &[&str] = &["controller", "csrow", "channel", "dimm_label"];
const CHIP: &[&str] = &["chip", "chip_name"];
const CONTROLLER: &[&str] = &["controller"];
const COOLING: &[&str] = &["name", "type"];
const DMI: &[&str] = &["bios_*", "board_*", "chassis_*", "product_*", "system_vendor"];
const RAPL: &[&str] = &["index", "path"];
const ROW: &[&str] = &["controller", "csrow"];
const SENSOR: &[&str] = &["chip", "sensor"];
const SENSOR_LABEL: &[&str] = &["chip", "sensor", "label"];
const SUPPLY: &[&str] = &["power_supply"];
const SUPPLY_INFO: &[&str] = &["power_supply", "type", "status", "model_name", "…"];
const ZONE: &[&str] = &["zone", "type"];
