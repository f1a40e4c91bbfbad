"""Small parts that methods share: schedules, teachers, mixing, perturbation, uncertainty, connected components."""
