"""How good are the masks: metrics a case and class, their statistics, calibration of the uncertainty."""
