include $(sort $(wildcard $(BR2_EXTERNAL_AMBIDEX_PATH)/package/*/*.mk))
