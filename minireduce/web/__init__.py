"""Pages, JSON and metrics over read-only views that the master hands in; knows neither master nor worker."""
