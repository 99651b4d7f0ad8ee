"""`tfpt serve`: a bundle behind TensorFlow Serving's REST and gRPC interfaces, with a web page."""
