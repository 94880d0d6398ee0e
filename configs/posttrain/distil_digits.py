"""A perceptron of 16 units learns scikit-learn's digits from the predictions of a larger one."""

from genjax import gx


def get_config(tiny: bool = False) -> gx.Experiment:
    experiment = gx.Experiment(
        family=gx.Distillation(
            teacher="runs/classifier_digits",
            student=gx.Classifier(net=gx.MLPBackbone((16,))),
            weight=0.9,
            temperature=3.0,
        ),
        data=gx.Digits(),
        augment=(gx.Crop(padding=1, mode="constant"),),
        optimizer=gx.AdamW(gx.WarmUp(100, gx.Cosine(4e-3, 1e-5)), weight_decay=0.05),
        steps=2000,
        batch_size=128,
        evaluators=(gx.Calibration(),),
        every=gx.Every(log=200, evaluate=1000, sample=0, checkpoint=1000),
        steps_per_dispatch=20,
    )
    return gx.replace_fields(experiment, TINY) if tiny else experiment


TINY = {
    "family.teacher": "runs/classifier_digits_tiny",
    "family.student.net.hidden": (8,),
    "optimizer.learning_rate.warm_up": 4,
    "steps": 16,
    "batch_size": 16,
    "every": gx.Every(log=4, evaluate=8, sample=0, checkpoint=8),
    "steps_per_dispatch": 4,
}
