"""`make bench-monitor`: a window judged by Evidently alone and by ours, false alarms on identical data, and power."""
