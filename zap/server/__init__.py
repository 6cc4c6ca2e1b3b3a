"""The parts of a serving process around the app: connections, workers, lifespan, trainings and watches."""
