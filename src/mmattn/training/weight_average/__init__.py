"""weight_average: validation and the saved model use a mean of the weights of many steps."""
